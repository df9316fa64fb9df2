"""TCP connections between ranks on different hosts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_nccl_ring.door import arrivals
from ds_nccl_ring.roll_call import ranks_said

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.placement import Placement


def connect(
    store: Store,
    name: str,
    rank: int,
    peers: Iterable[int],
    placement: Placement,
    token: bytes,
    timeout: float,
) -> dict[int, socket.socket]:
    """One connection to each of `peers`, who call it likewise. Of two ranks the lower one listens.

    Args:
        store: Where the listening ranks say at which port.
        name: What the connections are for; used once in a store.
        rank: This one.
        peers: Others, on other hosts.
        placement: Where ranks are.
        token: Of the group, so that nobody else's connection is taken for a rank's.
        timeout: Seconds.

    Raises:
        RefusedError: Names the ranks and hosts that could not be reached, or never came.
    """
    peers = sorted(peers)
    deadline = time.monotonic() + timeout
    found: dict[int, socket.socket] = {}
    door = None
    try:
        if peers and peers[-1] > rank:
            door = _listen(placement.host_of(rank).address, len(peers))
            address = placement.host_of(rank).address
            store.set(f"{name}/{rank}", f"{door.getsockname()[1]} {address}")
        for peer in peers:
            if peer < rank:
                found[peer] = _call(store, name, rank, peer, placement, token, deadline, timeout)
        if door is not None:
            awaited = {peer for peer in peers if peer > rank}
            for peer, one in arrivals(door, token, awaited, deadline):
                found[peer] = one
                with suppress(OSError):
                    one.sendall(token)
        absent = [peer for peer in peers if peer not in found]
        if absent:
            hosts = ", ".join(placement.host_of(peer).name for peer in absent)
            raise RefusedError(
                f"{ranks_said(absent)} on {hosts} did not connect to rank {rank} within "
                f"{timeout:g} s ({name}).",
                mend="See whether they were started, and whether a firewall is between the hosts.",
            )
    except BaseException:
        for one in found.values():
            one.close()
        raise
    finally:
        if door is not None:
            door.close()
    for one in found.values():
        one.settimeout(None)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _unpace(one)
    return found


def _unpace(one: socket.socket) -> None:
    """Let a link use all of an uplink as soon as it is its turn.

    BBR paces a connection by the rate that it had before, when others shared the uplink: 1.07 to
    1.24 times the least time there could be, where CUBIC needed 1.04 to 1.06.
    """
    if not hasattr(socket, "TCP_CONGESTION"):
        return
    option = (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
    with suppress(OSError):
        if not one.getsockopt(*option, 16).startswith(b"bbr"):
            return
    for name in (b"cubic", b"reno"):
        with suppress(OSError):  # not loaded, or not allowed
            one.setsockopt(*option, name)
            return


def _listen(address: str, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        try:
            door.bind((address, 0))
        except OSError:
            door.bind(("", 0))  # the address that others see may be a translated one
        door.listen(backlog)
    except BaseException:
        door.close()
        raise
    return door


def _call(
    store: Store,
    name: str,
    rank: int,
    peer: int,
    placement: Placement,
    token: bytes,
    deadline: float,
    timeout: float,
) -> socket.socket:
    who = f"rank {peer} on host {placement.host_of(peer).name}"
    try:
        store.wait([f"{name}/{peer}"], timedelta(seconds=max(0.001, deadline - time.monotonic())))
    except RuntimeError:
        raise RefusedError(
            f"R{who[1:]} did not arrive within {timeout:g} s ({name}).",
            mend="See whether it was started, and what it said last.",
        ) from None
    port, _, address = store.get(f"{name}/{peer}").decode().partition(" ")
    one = None
    try:
        left = max(0.001, deadline - time.monotonic())
        one = socket.create_connection((address, int(port)), timeout=left)
        one.sendall(token + rank.to_bytes(4, "big"))
        if one.recv(len(token), socket.MSG_WAITALL) != token:
            raise ConnectionError("something else answered")
    except OSError as error:
        if one is not None:
            one.close()
        raise RefusedError(
            f"Rank {rank} cannot connect to {who} at {address} port {port}: {error}.",
            mend="See whether a firewall is between the hosts; GLOO_SOCKET_IFNAME chooses the "
            "interface.",
        ) from error
    return one
