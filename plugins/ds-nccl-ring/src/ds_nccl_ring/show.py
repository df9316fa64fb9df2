"""Where ranks are, and how their collectives would travel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pydantic

from ds_nccl_ring.options import RingOptions
from ds_nccl_ring.placement import Placement, prove
from ds_nccl_ring.plan import TopologyPlan

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


class Shown(pydantic.BaseModel):
    """A placement, and the plan for it."""

    model_config = pydantic.ConfigDict(frozen=True)

    placement: Placement
    plan: TopologyPlan
    seconds: dict[int, dict[str, float]] = {}
    """Measured, of each size and algorithm; empty unless it was asked for."""


@dataclass(frozen=True)
class Place:
    """Where this process meets the other ranks."""

    store: Store
    rank: int
    size: int


def under_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several ranks."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(environment)


def meet(timeout: float) -> Place:
    """The store that torchrun's ranks share, or one of this process alone."""
    from torch._C._distributed_c10d import HashStore
    from torch.distributed.rendezvous import rendezvous

    if not under_torchrun():
        return Place(HashStore(), 0, 1)
    store, rank, size = next(iter(rendezvous("env://")))
    store.set_timeout(timedelta(seconds=timeout))
    return Place(store, rank, size)


def show(place: Place, *, calibrate: bool, timeout: float) -> Shown:
    """Prove the placement, plan, and time the algorithms if asked for; every rank calls it.

    Raises:
        RefusedError: The placement cannot be proved, or ranks were given different options.
    """
    options = RingOptions.from_environment()
    placement = prove(place.store, place.rank, place.size, timeout=timeout)
    plan = TopologyPlan.of(placement, wire=options.wire, chunk_bytes=options.chunk_bytes)
    plan.check_alike(place.store, place.rank, place.size, timeout)
    if not calibrate or place.size == 1:
        return Shown(placement=placement, plan=plan)
    from torch._C._distributed_c10d import PrefixStore

    from ds_nccl_ring.calibration import calibrate_group
    from ds_nccl_ring.group import Group

    store = PrefixStore("show", place.store)
    group = Group(store, place.rank, place.size, placement, plan, timeout=timeout, name="show")
    try:
        found = calibrate_group(group)
    finally:
        group.close()
    return Shown(placement=placement, plan=group.plan, seconds=found.seconds)
