"""Putting steps that were recorded at different times on one clock."""

from __future__ import annotations

import numpy as np

from ds_inspector.recording.table import Array


class Clock:
    """Maps nanoseconds at which tensors were born and died to seconds of the recording.

    Steps lie end to end there, those that were not recorded left out. Within a step, calls of
    operators that were both dispatched in one step and timed in another give the time; between
    them it is interpolated. The order of births and deaths stays as it was.
    """

    def __init__(self) -> None:
        self._from: list[Array] = []
        self._to: list[Array] = []

    def add(self, begin: int, end: int, start: float, seconds: float) -> None:
        """Map a step's nanoseconds to the seconds of a step of the recording, evenly."""
        self.add_calls(begin, end, start, seconds, np.zeros(0), np.zeros(0))

    def add_calls(
        self, begin: int, end: int, start: float, seconds: float, calls: Array, times: Array
    ) -> None:
        """Map a step by calls in it.

        Args:
            begin: Nanoseconds, as `end`.
            end: Of the step in which tensors were recorded.
            start: Seconds at which the timed step begins in the recording.
            seconds: Its length.
            calls: Nanoseconds of calls, ascending.
            times: Seconds since the timed step began of the same calls.
        """
        inside = np.clip(np.maximum.accumulate(np.append(0.0, times)), 0.0, seconds)[1:]
        self._from.append(np.concatenate([[begin], calls, [end]]).astype(float))
        self._to.append(start + np.concatenate([[0.0], inside, [seconds]]))

    def seconds(self, nanoseconds: Array) -> Array:
        """Times in the recording; those before or after all steps are at its bounds."""
        if not self._from:
            return np.zeros(len(nanoseconds))
        origin, target = np.concatenate(self._from), np.concatenate(self._to)
        result: Array = np.interp(np.asarray(nanoseconds, float), origin, target)
        return result
