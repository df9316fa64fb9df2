"""Warnings that point at the user's line, however deep in the machinery they arise."""

from __future__ import annotations

import sys
import warnings

_MACHINERY = ("ds_core", "pluggy", "torch")


def warn(message: str) -> None:
    """Issue a `RuntimeWarning` at the nearest caller outside ds_core, pluggy and torch."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in _MACHINERY:
            break
        frame = frame.f_back
        level += 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
