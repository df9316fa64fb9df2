"""Tells whoever listens how each step of a running session went."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

import orjson

from ds_core.errors import RefusedError
from ds_inspector.live.folder import runtime_folder

_LONGEST = 100
"""Bytes of a socket's path: systems end at 104 or 108."""


class Publisher:
    """Publishes steps on a Unix socket in the user's runtime folder, without a thread.

    Listeners are let in when a step is published. With none there, that costs one system call. A
    listener that does not read as fast as steps come is dropped, so training never waits.

    Where there is no socket to be had, nothing is published and `problem` says why: a training
    never fails for it.

    Args:
        name: What `ds inspect attach` shows it as.
    """

    def __init__(self, name: str) -> None:
        self.problem = ""
        """Why nothing is published; empty where all is well."""
        self._name = name
        self._steps = 0
        self._listeners: list[socket.socket] = []
        self._door: socket.socket | None = None
        self._owner = os.getpid()
        self._paths: list[Path] = []
        try:
            self._open(runtime_folder(make=True))
        except (OSError, RefusedError) as error:
            self.problem = f"Nothing is published: {error}"
        if hasattr(os, "register_at_fork"):
            forget = weakref.WeakMethod(self._forget)
            os.register_at_fork(after_in_child=lambda: (forget() or _nothing)())

    @property
    def listeners(self) -> int:
        """How many are told of the next step."""
        return len(self._listeners)

    def step(
        self, seconds: float, bytes: int | None = None, peak: int | None = None, **more: Any
    ) -> None:
        """A step has ended.

        Args:
            seconds: That it took.
            bytes: Allocated now.
            peak: Most that was allocated during it.
            more: As `loss`: whatever JSON can hold.
        """
        self._steps += 1
        if self._door is None:
            return
        self._let_in()
        if self._listeners:
            told = {"event": "step", "step": more.pop("step", self._steps - 1), "seconds": seconds}
            self._tell({**told, "bytes": bytes, "peak_bytes": peak, **more})

    def close(self) -> None:
        """Tell listeners that it is over, and take the session off the list."""
        if self._door is not None:
            self._let_in()
            self._tell({"event": "end"})
        self._forget()
        if os.getpid() == self._owner:
            for path in self._paths:
                path.unlink(missing_ok=True)
        self._paths = []

    def _open(self, folder: Path) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise RefusedError("this system has no Unix sockets.")
        number = 0
        while (path := folder / f"{self._owner}-{number}.sock").exists():
            if number > 99:
                raise RefusedError(f"{folder} is full.", mend="Remove it.")
            number += 1
        if len(os.fsencode(path)) > _LONGEST:
            raise RefusedError(f"{path} is too long a path.", mend="Set XDG_RUNTIME_DIR.")
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            door.bind(os.fspath(path))
            self._paths.append(path)
            door.listen(8)
            door.setblocking(False)
        except OSError:
            door.close()
            raise
        self._door = door
        about = path.with_suffix(".json")
        self._paths.append(about)
        about.write_bytes(
            orjson.dumps({"pid": self._owner, "name": self._name, "started": time.time()})
        )

    def _let_in(self) -> None:
        assert self._door is not None
        with contextlib.suppress(OSError):  # BlockingIOError: nobody is waiting
            while True:
                listener, _ = self._door.accept()
                listener.setblocking(False)
                self._listeners.append(listener)

    def _tell(self, message: dict[str, Any]) -> None:
        line = orjson.dumps(message, default=float, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        for listener in list(self._listeners):
            try:
                whole = listener.send(line, getattr(socket, "MSG_NOSIGNAL", 0)) == len(line)
            except OSError:
                whole = False
            if not whole:
                listener.close()
                self._listeners.remove(listener)

    def _forget(self) -> None:
        for endpoint in (*self._listeners, self._door):
            if endpoint is not None:
                endpoint.close()
        self._listeners, self._door = [], None


def _nothing() -> None:
    pass
