"""What the page asks by itself, as it forms it."""

from __future__ import annotations

Question = tuple[str, dict[str, str]]
"""The name of an answer, and its arguments."""


def flame_question(
    index: int, by: str = "module", phase: str = "all", inverted: int = 0, against: int = 0
) -> Question:
    """For the flame graph of a recording, of all steps."""
    return "flame", {
        "r": str(index),
        "by": by,
        "phase": phase,
        "step": "all",
        "inverted": str(inverted),
        "against": str(against),
    }
