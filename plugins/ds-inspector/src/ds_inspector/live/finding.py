"""Finds sessions that are running, and listens to one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ds_core.errors import RefusedError
from ds_inspector.live.folder import runtime_folder

_LONGEST = 1 << 20
"""Bytes of a line; a session says a few hundred."""


@dataclass(frozen=True)
class Session:
    """One that runs."""

    pid: int
    name: str
    started: float
    """Seconds since 1970."""
    path: Path
    """Of its socket."""


def sessions() -> list[Session]:
    """This user's running sessions, the latest first; what dead ones left behind is removed.

    Raises:
        RefusedError: Others can enter the folder in which they are registered.
    """
    folder = runtime_folder()
    found = []
    for about in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        path = about.with_suffix(".sock")
        try:
            said = orjson.loads(about.read_bytes())
            session = Session(int(said["pid"]), str(said["name"]), float(said["started"]), path)
        except (OSError, ValueError, KeyError, TypeError):
            session = None
        if session is not None and _alive(session.pid) and path.exists():
            found.append(session)
        elif not _alive(_pid_in(about)):  # one that is alive may be about to write it
            about.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda session: -session.started)


def follow(session: Session) -> Iterator[dict[str, Any]]:
    """What a session says from now on: dicts with `event`, the last of which is `end`.

    Raises:
        RefusedError: It does not let anybody in any more.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
        try:
            line.connect(os.fspath(session.path))
        except OSError as error:
            raise RefusedError(
                f"Process {session.pid} publishes nothing any more: {error.strerror}."
            ) from error
        with line.makefile("rb") as lines:
            while text := _read(lines):
                message = orjson.loads(text)
                yield message
                if message.get("event") == "end":
                    return
    yield {"event": "end"}


def _read(lines: Any) -> bytes:
    try:
        text: bytes = lines.readline(_LONGEST)
    except OSError:  # a session that is killed resets the connection
        return b""
    return text if text.endswith(b"\n") else b""


def _pid_in(path: Path) -> int:
    head = path.stem.partition("-")[0]
    return int(head) if head.isdigit() else 0


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
