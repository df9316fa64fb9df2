"""One running session, told to every page that listens."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import orjson

Source = Callable[[], Iterator[Mapping[str, Any]]]
"""Gives the steps of a session, each as soon as there is one; ends when the session does."""

_HISTORY = 20_000
_WAITING = 1_000


class Broadcast:
    """Steps as server-sent events; who comes late is told first what has been.

    Args:
        source: Called once, in a thread of its own.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._past: deque[bytes] = deque(maxlen=_HISTORY)
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[bytes | None]]] = []
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="live", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    async def listen(self) -> AsyncIterator[bytes]:
        """Everything so far, then what comes; slow listeners lose steps, not the newest ones."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        me = (asyncio.get_running_loop(), queue)
        with self._lock:
            past = b"".join(self._past)
            ended = self._ended
            self._listeners.append(me)
        try:
            yield past or b": waiting\n\n"
            while not ended:
                event = await queue.get()
                if event is None:
                    break
                while queue.qsize() > _WAITING:
                    event = queue.get_nowait() or b""
                yield event
            yield b"event: end\ndata: {}\n\n"
        finally:
            with self._lock:
                self._listeners.remove(me)

    def _read(self) -> None:
        try:
            for step in self._source():
                data = orjson.dumps(dict(step), option=orjson.OPT_SERIALIZE_NUMPY)
                self._tell(b"event: step\ndata: " + data + b"\n\n")
        finally:
            with self._lock:
                self._ended = True
            self._tell(None)

    def _tell(self, event: bytes | None) -> None:
        with self._lock:
            if event is not None:
                self._past.append(event)
            for loop, queue in self._listeners:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(queue.put_nowait, event)
