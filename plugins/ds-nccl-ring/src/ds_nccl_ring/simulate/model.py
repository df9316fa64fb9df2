"""What each algorithm sends and computes, and what that takes.

The alpha-beta-gamma model: a time for each message on the critical path, one for each byte on an
uplink, one for each byte that is reduced or copied inside a host (Thakur, Rabenseifner and Gropp,
Optimization of collective communication operations in MPICH, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass

from ds_nccl_ring.bounds import WIRE_SHARE, uplink_bytes


@dataclass(frozen=True)
class Shape:
    """Hosts that are alike."""

    hosts: int
    ranks: int
    """On each host."""
    rate: float
    """Bytes a second of each host's uplinks together, in each direction."""


@dataclass(frozen=True)
class Terms:
    """What an all-reduce consists of."""

    start: float
    """Calls: one."""
    messages: float
    """Between hosts, one after the other."""
    local_messages: float
    """Inside a host, one after the other."""
    uplink: float
    """Seconds that the busiest uplink takes at its rate."""
    local: float
    """Bytes that a rank reduces or copies inside its host, one after the other."""


@dataclass(frozen=True)
class Costs:
    """Seconds for each unit of the `Terms`; of `uplink`, how many times what the rate says."""

    start: float = 0.0
    messages: float = 0.0
    local_messages: float = 0.0
    uplink: float = 1.0
    local: float = 0.0

    def seconds(self, terms: Terms) -> float:
        """Of a whole all-reduce."""
        pairs = zip(astuple(self), astuple(terms), strict=True)
        return float(sum(cost * amount for cost, amount in pairs))


def terms(algorithm: str, shape: Shape, nbytes: float) -> Terms:
    """What an algorithm, one of `ALGORITHMS`, needs for a tensor of float32 on a cluster."""
    return ALGORITHMS[algorithm](shape, nbytes)


def _flat(shape: Shape, nbytes: float) -> Terms:
    every = shape.hosts * shape.ranks
    moved = 2 * (every - 1) / every * nbytes
    crossing = moved if shape.hosts > 1 else 0.0
    return Terms(1, 2 * (shape.hosts - 1), 2 * (every - shape.hosts), crossing / shape.rate, moved)


def _interleaved(shape: Shape, nbytes: float) -> Terms:
    every = shape.hosts * shape.ranks
    if shape.hosts == 1:
        return _flat(shape, nbytes)
    moved = 2 * (every - 1) / every * nbytes
    return Terms(1, 2 * (every - 1), 0, moved * shape.ranks / shape.rate, moved)


def _tree(shape: Shape, nbytes: float) -> Terms:
    # Of two trees over half the tensor each, a host is inside one and a leaf of the other: Sanders,
    # Speck and Traeff, Two-tree algorithms for full bandwidth broadcast, reduction and scan, 2009.
    depth = math.ceil(math.log2(shape.hosts)) if shape.hosts > 1 else 0
    crossing = 2 * nbytes if shape.hosts > 1 else 0.0
    return Terms(1, 2 * depth, 2 * (shape.ranks - 1), crossing / shape.rate, 2 * nbytes)


def _hierarchical(wire: str) -> Callable[[Shape, float], Terms]:
    def count(shape: Shape, nbytes: float) -> Terms:
        # A ring, or an exchange in paced steps, which are as many.
        sent = uplink_bytes(nbytes, shape.hosts, wire) / shape.rate
        inside = 2 * (shape.ranks - 1)
        return Terms(1, 2 * (shape.hosts - 1), inside, sent, inside / shape.ranks * nbytes)

    return count


def _parameter_server(shape: Shape, nbytes: float) -> Terms:
    every = shape.hosts * shape.ranks
    remote = every - shape.ranks
    return Terms(
        1, 2 * remote, 2 * (shape.ranks - 1), 2 * remote * nbytes / shape.rate, every * nbytes
    )


ALGORITHMS: dict[str, Callable[[Shape, float], Terms]] = {
    "parameter-server": _parameter_server,
    "interleaved": _interleaved,
    "flat": _flat,
    "tree": _tree,
    **{
        "hierarchical" if wire == "float32" else f"hierarchical-{wire}": _hierarchical(wire)
        for wire in WIRE_SHARE
    },
}
"""What each needs, by name."""
