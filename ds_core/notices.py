"""Warnings that point at the user's line, however deep in the machinery they arise."""

from __future__ import annotations

import sys
import warnings

_MACHINERY = ("ds_core", "pluggy", "torch")


def warn(message: str) -> None:
    """Issue a `RuntimeWarning` at the nearest caller outside ds_core, pluggy, torch and the plugin.

    The plugin is the package that calls this.
    """
    level, frame = 1, sys._getframe(0)
    caller = sys._getframe(1).f_globals.get("__name__", "")
    machinery = {*_MACHINERY, caller.partition(".")[0]} - {"__main__"}
    while frame.f_back is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in machinery:
            break
        frame = frame.f_back
        level += 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)
