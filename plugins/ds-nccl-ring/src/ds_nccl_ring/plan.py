"""How collectives of each size travel over the hosts of a group."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Literal, Self

import pydantic

from ds_core.errors import RefusedError
from ds_nccl_ring.roll_call import ranks_said, roll_call

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.placement import Placement

KIB, MIB = 1 << 10, 1 << 20

FLAT_BELOW = 64 * KIB
"""Bytes below which latency decides, and one ring over all ranks is taken unmeasured."""

_FAREWELL = 5.0

Legs = Literal["shared-memory", "process-groups"]
Wire = Literal["float32", "bfloat16", "int8"]
Algorithm = Literal["flat", "hierarchical", "hierarchical-bfloat16", "hierarchical-int8"]

_TWO_LEVELS: dict[Wire, Algorithm] = {
    "float32": "hierarchical",
    "bfloat16": "hierarchical-bfloat16",
    "int8": "hierarchical-int8",
}
_WIRES: dict[str, Wire | None] = {
    "flat": None,
    **{name: wire for wire, name in _TWO_LEVELS.items()},
}


class TopologyPlan(pydantic.BaseModel):
    """What all ranks of a group have agreed on.

    A rail joins the n-th ranks of all hosts, so that each carries a share of what goes between
    hosts.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    hosts: tuple[tuple[str, tuple[int, ...]], ...]
    """Each host's name and ranks, ordered by lowest rank."""
    rails: int = pydantic.Field(ge=1)
    """The ranks of the host that has the fewest."""
    legs: Legs
    """What carries tensors inside a host, and what comes with it between hosts."""
    wire: Wire
    """What numbers are between hosts; `float32` is exact, in the tensor's own dtype."""
    chunk_bytes: int = pydantic.Field(ge=64 * KIB)
    """Bytes that go through the legs at a time, over all ranks of a host."""
    algorithms: tuple[tuple[int, Algorithm], ...]
    """From how many bytes which algorithm is used, ascending from 0."""

    @pydantic.model_validator(mode="after")
    def _from_zero_up(self) -> Self:
        starts = [start for start, _ in self.algorithms]
        if starts[:1] != [0] or starts != sorted(set(starts)):
            raise ValueError("algorithms must begin at 0 bytes and ascend")
        return self

    def algorithm(self, nbytes: int) -> Algorithm:
        """What a tensor of `nbytes` is reduced by."""
        found: Algorithm = self.algorithms[0][1]
        for start, name in self.algorithms:
            if start <= nbytes:
                found = name
        return found

    @property
    def hierarchical(self) -> Algorithm:
        """The two-level algorithm in the wire format that was asked for."""
        return hierarchical(self.wire if len(self.hosts) > 1 else "float32")

    @classmethod
    def of(
        cls,
        placement: Placement,
        *,
        legs: Legs = "shared-memory",
        wire: Wire = "float32",
        chunk_bytes: int = 4 * MIB,
    ) -> TopologyPlan:
        """A plan before anything was measured: two levels from 64 KiB up."""
        name = hierarchical(wire if len(placement.hosts) > 1 else "float32")
        return cls(
            hosts=tuple((host.name, host.ranks) for host in placement.hosts),
            rails=min(len(host.ranks) for host in placement.hosts),
            legs=legs,
            wire=wire,
            chunk_bytes=chunk_bytes,
            algorithms=((0, "flat"), (FLAT_BELOW, name)),
        )

    def check_alike(self, store: Store, rank: int, size: int, timeout: float) -> None:
        """Compare with all other ranks' plans; every rank of the store's group calls it.

        Raises:
            RefusedError: Names the ranks whose plan is another than rank 0's, and the fields.
        """
        mine = {
            name: hashlib.sha256(str(value).encode()).hexdigest()[:16]
            for name, value in self.model_dump(mode="json").items()
        }
        plans = roll_call(store, "plan", rank, size, mine, timeout=timeout)
        others = [other for other in range(size) if plans[other] != plans[0]]
        if not others:
            return
        # The store may be this process's own, and must not go before all have heard.
        with contextlib.suppress(RefusedError):
            roll_call(store, "heard", rank, size, None, timeout=_FAREWELL)
        fields = [name for name in mine if any(plans[o][name] != plans[0][name] for o in others)]
        raise RefusedError(
            f"{ranks_said(others)} planned another {' and '.join(fields)} than rank 0.",
            mend="Give all ranks the same options and the same environment.",
        )


def hierarchical(wire: Wire) -> Algorithm:
    """The two-level algorithm whose leg between hosts is in `wire`."""
    return _TWO_LEVELS[wire]


def wire_of(algorithm: str) -> Wire | None:
    """What numbers are between hosts; None for `flat`.

    Raises:
        RefusedError: There is no such algorithm.
    """
    if algorithm not in _WIRES:
        raise RefusedError(
            f"There is no algorithm {algorithm!r}.", mend=f"Use one of {', '.join(_WIRES)}."
        )
    return _WIRES[algorithm]
