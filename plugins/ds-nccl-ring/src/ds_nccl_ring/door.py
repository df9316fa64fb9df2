"""Who comes to a rank that listens, and proves to be a rank of its group."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Set
from contextlib import suppress

_STRANGER = 5.0
"""Seconds for someone who connected to say who it is."""


def arrivals(
    door: socket.socket, token: bytes, awaited: Set[int], deadline: float
) -> Iterator[tuple[int, socket.socket]]:
    """Ranks and their connections, whoever else knocks; ends with the last one or the deadline.

    Args:
        door: Listens.
        token: Of the group. Who comes says it, and its rank in four bytes.
        awaited: Ranks.
        deadline: By the monotonic clock.
    """
    left = set(awaited)
    while left and (seconds := deadline - time.monotonic()) > 0:
        door.settimeout(seconds)
        try:
            one, _ = door.accept()
        except TimeoutError:
            return
        one.settimeout(_STRANGER)
        said = b""
        with suppress(OSError):
            said = one.recv(len(token) + 4, socket.MSG_WAITALL)
        rank = int.from_bytes(said[len(token) :], "big")
        if said[: len(token)] == token and rank in left:
            left.discard(rank)
            yield rank, one
        else:
            one.close()
