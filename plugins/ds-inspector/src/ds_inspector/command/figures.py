"""How commands write times, sizes and changes."""

from __future__ import annotations

import math


def seconds(value: float | None) -> str:
    """A time, as `12.3 ms`."""
    if value is None or math.isnan(value):
        return ""
    for unit, unit_size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= unit_size:
            return f"{value / unit_size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def change(value: float) -> str:
    """A difference of times, with its sign."""
    return seconds(value) if value < 0 else f"+{seconds(value)}"


def share(value: float | None) -> str:
    """A share, as `12%`."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.1%}" if abs(value) < 0.1 else f"{value:.0%}"


def rate(value: float | None) -> str:
    """Operations a second."""
    if value is None or math.isnan(value):
        return ""
    for unit, unit_size in (("TFLOP/s", 1e12), ("GFLOP/s", 1e9), ("MFLOP/s", 1e6)):
        if value >= unit_size:
            return f"{value / unit_size:.3g} {unit}"
    return f"{value:.3g} FLOP/s"


def cut(text: str, width: int) -> str:
    """The end of a text that is too long for a column, on one line."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= width else "…" + text[1 - width :]
