"""What a check found."""

from __future__ import annotations

from typing import Literal

import pydantic


class Finding(pydantic.BaseModel):
    """A fact, something to know, or a problem with its mend."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    level: Literal["ok", "note", "problem"]
    subject: str
    """What was looked at."""
    what: str
    """One sentence."""
    mend: str = ""
    """What to do about it."""


def ok(subject: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(level="ok", subject=subject, what=what)


def note(subject: str, what: str, mend: str = "") -> Finding:
    """Worth knowing."""
    return Finding(level="note", subject=subject, what=what, mend=mend)


def problem(subject: str, what: str, mend: str) -> Finding:
    """Breaks something, or makes it slow."""
    return Finding(level="problem", subject=subject, what=what, mend=mend)
