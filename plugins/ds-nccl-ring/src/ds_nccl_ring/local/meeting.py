"""The ranks of a host meet at its first rank, which hands them its shared memory."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_nccl_ring.door import arrivals
from ds_nccl_ring.roll_call import ranks_said

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.placement import Host


def receive(
    store: Store, host: Host, token: bytes, descriptors: Sequence[int], timeout: float
) -> dict[int, socket.socket]:
    """As a host's first rank: hand the descriptors of memory and bells to its other ranks.

    Returns:
        A connection to each of them.

    Raises:
        RefusedError: Names the ranks that did not come in time, or ended.
    """
    found: dict[int, socket.socket] = {}
    first, *others = host.ranks
    with ExitStack() as undo, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(_address(host, token))
        door.listen(len(host.ranks))
        store.set(f"door/{first}", "open")
        for rank, one in arrivals(door, token, {*others}, time.monotonic() + timeout):
            found[rank] = undo.enter_context(one)
            try:
                socket.send_fds(one, [b"m"], descriptors)
            except OSError as error:
                raise RefusedError(
                    f"Rank {rank} on host {host.name} ended while it joined the group: {error}.",
                    mend="See what it said last.",
                ) from error
            one.settimeout(None)
        absent = sorted({*others} - {*found})
        if absent:
            raise RefusedError(
                f"{ranks_said(absent)} on host {host.name} did not come to rank {first} within "
                f"{timeout:g} s.",
                mend="See whether they were started, and what they said last.",
            )
        undo.pop_all()
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
    descriptors: list[int] = []
    try:
        way.settimeout(timeout)
        way.connect(_address(host, token))
        way.sendall(token + rank.to_bytes(4, "big"))
        _, descriptors, _, _ = socket.recv_fds(way, 1, 1 + len(host.ranks))
        if len(descriptors) != 1 + len(host.ranks):
            raise ConnectionError("it closed the connection")
    except OSError as error:
        way.close()
        for descriptor in descriptors:
            os.close(descriptor)
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
