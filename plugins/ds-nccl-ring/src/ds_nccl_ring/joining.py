"""How a rank joins its group: what all agree on, shared memory and connections."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds_nccl_ring.local import meeting
from ds_nccl_ring.local.segment import Segment, fitting_chunk, free_memory
from ds_nccl_ring.local.words import BELL
from ds_nccl_ring.roll_call import roll_call
from ds_nccl_ring.wire.links import connect

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.collectives import Site
    from ds_nccl_ring.placement import Placement


@dataclass(frozen=True)
class Terms:
    """What all ranks of a group agree on."""

    token: bytes
    """Tells its connections from those of others."""
    slot: int
    """Bytes of a chunk, which fits into the memory of every host."""


@dataclass(frozen=True)
class Joints:
    """What joins a rank to others."""

    segment: Segment
    """The memory of its host."""
    bells: list[int]
    """A descriptor for each rank of its host."""
    watched: dict[int, socket.socket]
    """Connections for the watch, by rank."""
    links: dict[int, socket.socket]
    """Connections of its rail, by host."""


def agree(store: Store, rank: int, placement: Placement, chunk_bytes: int, timeout: float) -> Terms:
    """Agree with all other ranks, each of which calls it.

    Raises:
        RefusedError: A rank did not come, or a host has too little memory.
    """
    said = {"token": secrets.token_hex(16), "free": free_memory()}
    terms = roll_call(store, "terms", rank, placement.size, said, timeout=timeout)
    slots = [
        fitting_chunk(chunk_bytes, len(host.ranks), terms[host.ranks[0]]["free"], host.name)
        for host in placement.hosts
    ]
    return Terms(bytes.fromhex(terms[0]["token"]), min(slots))


def join(
    store: Store, rank: int, site: Site, placement: Placement, terms: Terms, timeout: float
) -> Joints:
    """Meet the ranks of this host, and connect to those of others.

    Raises:
        RefusedError: Names the ranks that did not come or cannot be reached.
    """
    home, token = placement.hosts[site.host], terms.token
    with ExitStack() as undo:

        def kept(links: dict[int, socket.socket]) -> dict[int, socket.socket]:
            for link in links.values():
                undo.enter_context(link)
            return links

        if site.local:
            way, descriptors = meeting.come(store, home, token, rank, timeout)
            watched = kept({home.ranks[0]: way})
        else:
            descriptors = [Segment.create(len(home.ranks), terms.slot)]
            descriptors += (os.eventfd(0, BELL) for _ in home.ranks)
        for descriptor in descriptors:
            undo.callback(os.close, descriptor)
        if not site.local:
            watched = kept(meeting.receive(store, home, token, descriptors, timeout))
            others = [host.ranks[0] for host in placement.hosts if host != home]
            watched |= kept(connect(store, "watch", rank, others, placement, token, timeout))
        segment = Segment(descriptors[0], len(home.ranks), terms.slot)
        peers = {
            ranks[site.local]: number
            for number, ranks in enumerate(site.hosts)
            if number != site.host and site.local < site.rails
        }
        links = kept(connect(store, "rail", rank, peers, placement, token, timeout))
        undo.pop_all()
    os.close(descriptors[0])
    by_host = {peers[peer]: link for peer, link in links.items()}
    return Joints(segment, descriptors[1:], watched, by_host)
