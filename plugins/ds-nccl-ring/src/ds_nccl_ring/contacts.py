"""Whether the members of a job live, by a connection to each that stays open."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Self

PROBE = 1.0
"""Seconds for a connection to be accepted or refused; a host that is silent takes all of it."""

SILENT = 3
"""Signs of life in a row that are left out, after which a member counts as out of reach."""

_THREADS = 64

State = Literal["alive", "dead", "silent", "unsure"]


class Contacts:
    """Connections to the sockets that members listen on; a context manager.

    A kernel answers for such a socket however busy its process is, and resets and refuses
    connections once the process is dead. As nobody need accept them, there is only ever one to each
    member: a queue of them does not fill while a member is waited for.

    Args:
        places: The address and the port of each member.
    """

    def __init__(self, places: Mapping[int, tuple[str, int]]) -> None:
        self._places = places
        self._open: dict[int, socket.socket] = {}
        self._unanswered = dict.fromkeys(places, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open.values():
            connection.close()

    def look(self, seats: Sequence[int]) -> dict[int, State]:
        """What is known of some members by now; `unsure` before it was tried often enough."""
        absent = [seat for seat in seats if not self._holds(seat)]
        found: dict[int, State] = dict.fromkeys(seats, "alive")
        if absent:
            with ThreadPoolExecutor(min(len(absent), _THREADS)) as threads:
                found.update(zip(absent, threads.map(self._call, absent), strict=True))
        return found

    def _holds(self, seat: int) -> bool:
        connection = self._open.get(seat)
        if connection is None:
            return False
        try:
            connection.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self._open.pop(seat).close()
        return False

    def _call(self, seat: int) -> State:
        try:
            connection = socket.create_connection(self._places[seat], PROBE)
        except OSError as error:
            # The network says that there is no way, as opposed to a kernel that there is no socket.
            if isinstance(error, ConnectionError):
                return "dead"
            self._unanswered[seat] += 1
            return "silent" if self._unanswered[seat] >= SILENT else "unsure"
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("IDLE", 1), ("INTVL", 1), ("CNT", SILENT)):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{option}"), value)
        self._open[seat] = connection
        self._unanswered[seat] = 0
        return "alive"
