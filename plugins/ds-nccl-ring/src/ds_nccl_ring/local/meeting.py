"""The ranks of a host meet at its first rank, which hands them its shared memory."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_nccl_ring.roll_call import ranks_said

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.placement import Host

_STRANGER = 5.0
"""Seconds for someone who connected to say who it is."""


def receive(
    store: Store, host: Host, token: bytes, descriptors: Sequence[int], timeout: float
) -> dict[int, socket.socket]:
    """As a host's first rank: hand the descriptors of memory and bells to its other ranks.

    Returns:
        A connection to each of them.

    Raises:
        RefusedError: Names the ranks that did not come in time.
    """
    found: dict[int, socket.socket] = {}
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(_address(host, token))
        door.listen(len(host.ranks))
        store.set(f"door/{host.ranks[0]}", "open")
        while len(found) < len(host.ranks) - 1:
            door.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                one, _ = door.accept()
            except TimeoutError:
                for other in found.values():
                    other.close()
                absent = sorted({*host.ranks[1:]} - {*found})
                raise RefusedError(
                    f"{ranks_said(absent)} on host {host.name} did not come to rank "
                    f"{host.ranks[0]} within {timeout:g} s.",
                    mend="See whether they were started, and what they said last.",
                ) from None
            one.settimeout(_STRANGER)
            said = b""
            with suppress(OSError):
                said = one.recv(len(token) + 4, socket.MSG_WAITALL)
            rank = int.from_bytes(said[len(token) :], "big")
            if said[: len(token)] != token or rank not in host.ranks:
                one.close()
                continue
            socket.send_fds(one, [b"m"], descriptors)
            one.settimeout(None)
            found[rank] = one
    return found


def come(
    store: Store, host: Host, token: bytes, rank: int, timeout: float
) -> tuple[socket.socket, list[int]]:
    """As another rank of a host: connect to its first rank.

    Returns:
        The connection, and the descriptors that `receive` was given.

    Raises:
        RefusedError: The first rank did not come, or cannot be reached from here.
    """
    first = host.ranks[0]
    try:
        store.wait([f"door/{first}"], timedelta(seconds=timeout))
    except RuntimeError:
        raise RefusedError(
            f"Rank {first} on host {host.name} did not arrive within {timeout:g} s.",
            mend="See whether it was started, and what it said last.",
        ) from None
    way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        way.settimeout(timeout)
        way.connect(_address(host, token))
        way.sendall(token + rank.to_bytes(4, "big"))
        _, descriptors, _, _ = socket.recv_fds(way, 1, 1 + len(host.ranks))
        if len(descriptors) != 1 + len(host.ranks):
            raise ConnectionError("it closed the connection")
    except OSError as error:
        way.close()
        raise RefusedError(
            f"Rank {rank} cannot reach rank {first} on host {host.name}: {error}.",
            mend="Containers without a common network are hosts of their own: give each its own "
            "DS_NODE.",
        ) from error
    way.settimeout(None)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return way, descriptors


def _address(host: Host, token: bytes) -> str:
    # Abstract: it has no file, and goes with the process.
    return f"\0ds-ring-{token.hex()}-{host.ranks[0]}"
