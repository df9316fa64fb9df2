"""Namespaces by name, the processes inside them, and what crashed owners left behind.

A namespace is called `ds-<pid>-<start>-<tag>-<host>`: the process that owns it, when that process
started (a pid alone may be used again), a random tag, as one process may have several clusters.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Iterable
from pathlib import Path

NAMESPACES = Path("/var/run/netns")
"""Where iproute2 keeps the named ones."""

_NAME = re.compile(r"ds-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{6}-(?:switch|host\d+)")


def new_prefix() -> str:
    """The first part of the names of one cluster's namespaces."""
    return f"ds-{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(3)}"


def leftovers() -> list[str]:
    """Names of namespaces whose owner is dead."""
    if not NAMESPACES.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in NAMESPACES.iterdir())
    return [match[0] for match in found if match and _started(int(match["pid"])) != match["start"]]


def kill_inside(names: Iterable[str], marker: str = "") -> None:
    """End every process in these namespaces with SIGKILL, also those that detached themselves.

    Args:
        names: Of namespaces; those that are gone are passed over.
        marker: Only processes with this `NAME=value` in the environment that they started with.
    """
    inside = {identity for name in names if (identity := _identity(NAMESPACES / name))}
    for _ in range(200):  # a process may fork while the list is read
        found = [pid for pid in _pids() if _kill_if_inside(pid, inside, marker)]
        if not found:
            return
        time.sleep(0.01)


def _kill_if_inside(pid: int, inside: set[tuple[int, int]], marker: str) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Looked up after the handle was opened, so that it is this process and no later one.
        if _identity(Path(f"/proc/{pid}/ns/net")) not in inside:
            return False
        if marker and marker.encode() not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _started(pid: int) -> str | None:
    """Clock ticks from boot to the start of a process; None where it is dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text[text.rindex(")") + 2 :].split()  # the command's name may hold anything
    return None if state in "ZX" else fields[18]
