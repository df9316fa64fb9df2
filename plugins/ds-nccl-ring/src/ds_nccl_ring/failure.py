"""The one place that says why a group can no longer be used, seen by all its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ds_core.errors import DsError


class Failure:
    """Set once, by whichever thread finds out first; threads that wait are woken."""

    def __init__(self) -> None:
        self.error: DsError | None = None
        self._happened = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    def on_failure(self, wake: Callable[[], None]) -> None:
        """Call `wake` once it happens, or now where it has."""
        with self._lock:
            if self.error is None:
                self._wakers.append(wake)
                return
        wake()

    def set(self, error: DsError) -> bool:
        """Say why; False where another reason came first."""
        with self._lock:
            if self.error is not None:
                return False
            self.error = error
            wakers, self._wakers = self._wakers, []
        self._happened.set()
        for wake in wakers:
            wake()
        return True

    def wait(self, seconds: float) -> bool:
        """Whether it happened within so many seconds."""
        return self._happened.wait(seconds)
