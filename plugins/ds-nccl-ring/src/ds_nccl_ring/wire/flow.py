"""Sending and receiving over all links at a time, each list in its order."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

ENOUGH = 128 << 10
"""Bytes that a thread is woken for; it would else be woken for every packet."""

ROOM = 2 << 20
"""Bytes that the kernel takes in on a link while its reader is busy elsewhere."""


class BrokenLinkError(Exception):
    """A link has ended while something was under way.

    Attributes:
        host: The number of the host at its other end.
    """

    def __init__(self, host: int) -> None:
        super().__init__(host)
        self.host = host


class Gate:
    """Closed until what a send carries is there."""

    __slots__ = ("is_open",)

    def __init__(self) -> None:
        self.is_open = False


@dataclass(slots=True)
class Send:
    """Bytes for a host."""

    to: int
    data: memoryview
    gate: Gate | None = None
    """The bytes are not there while it is closed, and what comes later waits."""
    done: Callable[[], None] | None = None
    """Called once the bytes may be changed."""


@dataclass(slots=True)
class Receive:
    """Bytes from a host."""

    of: int
    size: int
    into: memoryview | None
    """Where they go; None: into memory that is the flow's, and valid while `done` runs."""
    done: Callable[[memoryview], None]


class Flow:
    """The links of one rail.

    Sends go out strictly one after the other, and receives come in so: a schedule in which each
    step has one sender for each receiver stays that way, and no receiver is flooded.

    Args:
        links: Of each host's number, a connection.
    """

    def __init__(self, links: Mapping[int, socket.socket]) -> None:
        self.bytes_sent = dict.fromkeys(links, 0)
        self._links = dict(links)
        self._sends: deque[Send] = deque()
        self._receives: deque[Receive] = deque()
        self._sent = self._received = 0
        self._scratch = memoryview(bytearray(0))
        self._low = dict.fromkeys(links, 1)
        for link in links.values():
            link.setblocking(False)
            # Linux makes room for as much as a reader says it will wait for; SO_RCVBUF could not
            # exceed net.core.rmem_max, and would switch its automatic growth off.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, ROOM)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def submit(self, sends: Iterable[Send], receives: Iterable[Receive]) -> None:
        """Append to both lists."""
        self._sends.extend(sends)
        self._receives.extend(receives)

    def move(self) -> bool:
        """Send what the kernel takes, and receive at most the head of the list.

        Returns:
            Whether anything moved.

        Raises:
            BrokenLinkError: A link has ended.
        """
        pushed = self._push()
        return self._pull() or pushed

    def awaited(self) -> dict[int, int]:
        """The hosts that the heads of both lists wait for, and what poll(2) shall look for."""
        masks: dict[int, int] = {}
        if self._sends:
            head = self._sends[0]
            if head.gate is None or head.gate.is_open:
                masks[head.to] = select.POLLOUT
        if self._receives:
            first = self._receives[0]
            masks[first.of] = masks.get(first.of, 0) | select.POLLIN
            self._want(first.of, min(first.size - self._received, ENOUGH))
        return masks

    def register(self, poll: select.poll) -> None:
        """Let `poll` look for what `awaited` says."""
        for host, mask in self.awaited().items():
            poll.register(self._links[host], mask)

    def close(self) -> None:
        """Close the links."""
        for link in self._links.values():
            link.close()

    def closed_by_peer(self) -> list[int]:
        """The hosts whose end of a link is closed."""
        poll = select.poll()
        hosts = {}
        for host, link in self._links.items():
            if link.fileno() >= 0:
                hosts[link.fileno()] = host
                poll.register(link, select.POLLRDHUP)
        return [hosts[descriptor] for descriptor, _ in poll.poll(0)]

    def _push(self) -> bool:
        """Send while the kernel takes it."""
        moved = False
        while self._sends:
            head = self._sends[0]
            if head.gate is not None and not head.gate.is_open:
                break
            if self._sent < len(head.data):
                try:
                    count = self._links[head.to].send(head.data[self._sent :])
                except BlockingIOError:
                    break
                except OSError:
                    raise BrokenLinkError(head.to) from None
                moved = True
                self.bytes_sent[head.to] += count
                self._sent += count
                if self._sent < len(head.data):
                    continue
            self._sends.popleft()
            self._sent = 0
            moved = True
            if head.done is not None:
                head.done()
        return moved

    def _pull(self) -> bool:
        """Receive at most the head of the list."""
        if not self._receives:
            return False
        head = self._receives[0]
        into = self._room(head.size) if head.into is None else head.into
        moved = False
        while self._received < head.size:
            try:
                count = self._links[head.of].recv_into(into[self._received : head.size])
            except BlockingIOError:
                break
            except OSError:
                count = 0
            if not count:
                raise BrokenLinkError(head.of)
            moved = True
            self._received += count
        if self._received == head.size:
            self._receives.popleft()
            self._received = 0
            moved = True
            head.done(into[: head.size])
        return moved

    def _room(self, size: int) -> memoryview:
        if len(self._scratch) < size:
            self._scratch = memoryview(bytearray(size))
        return self._scratch

    def _want(self, host: int, size: int) -> None:
        if self._low[host] != size:
            self._low[host] = size
            self._links[host].setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
