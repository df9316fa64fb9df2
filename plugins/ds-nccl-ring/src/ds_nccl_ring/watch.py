"""Who of the group has died, without false alarms.

The ranks of a host hold a connection to its first rank, and the first ranks of all hosts to each
other. A process that dies closes them at once. A host that falls silent does not acknowledge what
is sent every quarter of a second; it is the kernel that acknowledges, so that a process which is
busy, or stopped, is not taken for dead. Who notices a loss tells it to all others.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds_nccl_ring.placement import Placement

BEAT = 0.25
"""Seconds between two signs of life."""

SILENCE = 2000
"""Milliseconds after which a host that does not acknowledge is taken for dead."""

SETTLE = 0.05
"""Seconds in which the deaths of one accident are gathered."""

CLOSED = "its connection closed"
SILENT = "its host fell silent"
LEFT = "it left the group"

_BEAT, _BYE = b"\n", b"bye"


class Watch:
    """Listens to the connections on a thread of its own.

    Args:
        placement: Where ranks are.
        rank: This one.
        connections: To this host's other ranks and to the other hosts' first ranks, where this is
            the first of its host; else to the first.
        closed_links: Ranks on other hosts whose end of a link is closed, once one is lost.
        lose: Called from the thread at each news of a loss, after it was passed on.
    """

    def __init__(
        self,
        placement: Placement,
        rank: int,
        connections: Mapping[int, socket.socket],
        closed_links: Callable[[], list[int]],
        lose: Callable[[], None],
    ) -> None:
        self.lost: dict[int, str] = {}
        """Rank to reason."""
        self.left: set[int] = set()
        """Ranks of this host and first ranks of others that said goodbye, which is no loss."""
        self._placement = placement
        self._home = placement.host_of(rank)
        self._connections = dict(connections)
        self._closed_links = closed_links
        self._lose = lose
        self._heard = dict.fromkeys(connections, b"")
        self._reports: dict[int, str] = {}
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        for other, connection in self._connections.items():
            connection.setblocking(False)
            if other not in self._home.ranks:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
            self._selector.register(connection, selectors.EVENT_READ, other)
        self._thread = threading.Thread(target=self._run, name="ds-ring-watch", daemon=True)

    def start(self) -> None:
        """Listen from now on; what the callbacks need must be there."""
        self._thread.start()

    def report(self, lost: Mapping[int, str]) -> None:
        """Tell all ranks, this one's own group included, of ranks that others cannot know of."""
        self._reports.update(lost)
        self._wake()

    def close(self) -> None:
        """Say goodbye, so that the end of the connections is no loss."""
        self._closing.set()
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def close_in_child(self) -> None:
        """After a fork: let go of the connections, whose end shall mean the parent's end."""
        for connection in (*self._connections.values(), self._bell, self._ring):
            connection.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._ring.send(b"\0")

    def _run(self) -> None:
        beat = time.monotonic()
        while not self._closing.is_set():
            found: dict[int, str] = {}
            for key, _ in self._selector.select(max(0.0, beat - time.monotonic())):
                if key.data is None:
                    with suppress(BlockingIOError):
                        self._bell.recv(4096)
                else:
                    found.update(self._hear(key.data))
            for rank in list(self._reports):
                found[rank] = self._reports.pop(rank)
            if any(rank not in self.lost for rank in found):
                self._learn(found)
            if time.monotonic() >= beat:
                beat = time.monotonic() + BEAT
                if self.lost:
                    self._look_at_links()
                for rank in list(self._connections):
                    if rank not in self._home.ranks:
                        self._say(rank, _BEAT)
        for rank in list(self._connections):
            self._say(rank, _BYE + b"\n")
        self._selector.close()
        self.close_in_child()

    def _hear(self, rank: int) -> dict[int, str]:
        """Read from a connection; what it says is lost."""
        try:
            data = self._connections[rank].recv(1 << 16)
        except BlockingIOError:
            return {}
        except OSError as error:
            self._drop(rank)
            if isinstance(error, ConnectionError):
                return {} if rank in self.left else {rank: CLOSED}
            return dict.fromkeys(self._placement.host_of(rank).ranks, SILENT)
        if not data:
            self._drop(rank)
            return {} if rank in self.left else {rank: CLOSED}
        *lines, self._heard[rank] = (self._heard[rank] + data).split(b"\n")
        found: dict[int, str] = {}
        for line in lines:
            if line.startswith(_BYE):
                self._part(rank, int(line.removeprefix(_BYE) or rank))
            elif line:
                found.update({int(other): why for other, why in json.loads(line).items()})
        return found

    def _part(self, heard_from: int, rank: int) -> None:
        """Note who left, and tell the ranks of this host that only this one is connected to."""
        self.left.add(rank)
        for other in list(self._connections):
            if {rank, other} <= set(self._home.ranks) and other != heard_from:
                self._say(other, _BYE + str(rank).encode() + b"\n")

    def _learn(self, found: Mapping[int, str]) -> None:
        first = not self.lost
        self._spread(found)
        if first:
            # Others of the same accident are named in `lost`, not in the error: a rank may also
            # have ended because of it.
            time.sleep(SETTLE)
            self._look_at_links()

    def _look_at_links(self) -> None:
        self._spread({rank: CLOSED for rank in self._closed_links() if rank not in self.left})

    def _spread(self, found: Mapping[int, str]) -> None:
        news = {rank: why for rank, why in found.items() if rank not in self.lost}
        if news:
            self.lost = {**self.lost, **news}
            line = json.dumps({str(rank): why for rank, why in news.items()}).encode() + b"\n"
            # Before anything fails here and closes: who hears the news first blames nobody else.
            for rank in list(self._connections):
                self._say(rank, line)
            self._lose()

    def _say(self, rank: int, line: bytes) -> None:
        # Too little to ever fill a buffer that the other end reads; and if it does not, its
        # process stands still, and hears nothing anyway.
        with suppress(OSError):
            self._connections[rank].send(line)

    def _drop(self, rank: int) -> None:
        self._selector.unregister(self._connections[rank])
        self._connections.pop(rank).close()
