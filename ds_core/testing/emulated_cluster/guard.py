"""Closes what is open when the process ends: by `exit`, by an exception, by SIGTERM or SIGHUP.

SIGINT needs nothing: Python turns it into an exception. SIGKILL cannot be caught: the next
cluster removes what it left.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_open: list[Callable[[], None]] = []


def watch(close: Callable[[], None]) -> None:
    """Call `close` at the end of this process, unless `unwatch` comes first.

    `close` may be called in the middle of itself, and in a forked child: it has to bear both.
    """
    _open.append(close)
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            # A handler of the application's own is left: it decides how the process ends.
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _close_and_die)


def unwatch(close: Callable[[], None]) -> None:
    """`close` was called. The signals are as before when the last one goes."""
    if close in _open:
        _open.remove(close)
    if not _open and threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is _close_and_die:
                signal.signal(number, signal.SIG_DFL)


@atexit.register
def _close_all() -> None:
    for close in list(_open):
        close()


def _close_and_die(number: int, frame: FrameType | None) -> None:
    _close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
