"""Ranges of our own among the profiler's events."""

from __future__ import annotations

from typing import Any

MODULE = "ds_inspector.module:"
"""Before a module's qualified name."""

STEP = "ds_inspector.step"
"""A whole step."""


class Ranges:
    """Ranges that are open, the innermost last.

    A record of autograd's profiler costs about a microsecond where `record_function` costs ten.
    """

    def __init__(self) -> None:
        from torch._C._profiler import _RecordFunctionFast

        self._make = _RecordFunctionFast
        self._open: list[Any] = []

    def enter(self, label: str) -> None:
        """Begin a range."""
        made = self._make(label)
        made.__enter__()
        self._open.append(made)

    def leave(self) -> None:
        """End the innermost range, if there is one."""
        if self._open:
            self._open.pop().__exit__(None, None, None)

    def clear(self) -> None:
        """End all of them."""
        while self._open:
            self.leave()
