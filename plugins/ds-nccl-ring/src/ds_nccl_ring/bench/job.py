"""What each rank of a benchmark does."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ds_nccl_ring.bench.baselines import Gloo
from ds_nccl_ring.bench.figures import Figures, Row
from ds_nccl_ring.bench.options import Options

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


def benchmark(options: Options) -> Figures | None:
    """Take part in a benchmark, started by torchrun or in an emulated cluster; rank 0 has figures.

    Raises:
        RefusedError: Ranks did not arrive, or their placement cannot be proved.
    """
    from ds_nccl_ring.show import meet

    place = meet(options.timeout)
    return measure(place.store, place.rank, place.size, options)


def measure(store: Store, rank: int, size: int, options: Options) -> Figures | None:
    """As `benchmark`, by a store."""
    from ds_nccl_ring.bench import data, timing
    from ds_nccl_ring.bench.uplinks import measured_rate
    from ds_nccl_ring.bench.variants import Variants
    from ds_nccl_ring.placement import prove

    placement = prove(store, rank, size, timeout=options.timeout)
    elements = [max(nbytes // 4, 1) for nbytes in options.sizes]
    variants = Variants(
        options.variants,
        store,
        rank,
        placement,
        largest=max(elements),
        timeout=options.timeout,
    )
    meeting = _Meeting(variants.flat)
    several = len(placement.hosts) > 1
    rate = options.rate
    if rate is None and several:
        rate = measured_rate(variants.flat, placement, meeting.barrier, meeting.slowest)
    rows = []
    for count in elements:
        times = timing.interleaved(
            variants.ways,
            data.numbers(rank, count),
            barrier=meeting.barrier,
            slowest=meeting.slowest,
            rounds=options.rounds,
            budget=options.budget,
        )
        if rank == 0:
            rows += [
                _row(name, count, each.seconds, data.error(each.result, size))
                for name, each in times.items()
            ]
        meeting.barrier()
    variants.close()
    if rank:
        return None
    return Figures(
        hosts=tuple(len(host.ranks) for host in placement.hosts),
        emulated=options.emulated,
        rate=rate if several else None,
        rate_source="measured" if options.rate is None else "given",
        rows=tuple(rows),
    )


class _Meeting:
    """Where ranks wait for each other, and compare."""

    def __init__(self, group: Gloo) -> None:
        self._group = group

    def barrier(self) -> None:
        self.slowest([0.0])

    def slowest(self, seconds: list[float]) -> list[float]:
        import torch
        import torch.distributed as dist

        told = torch.tensor(seconds, dtype=torch.float64)
        self._group.allreduce([told], dist.ReduceOp.MAX).wait()
        found: list[float] = told.tolist()
        return found


def _row(name: str, elements: int, seconds: Sequence[float], error: float) -> Row:
    return Row(
        algorithm=name,
        nbytes=4 * elements,
        elements=elements,
        seconds=statistics.median(seconds),
        low=min(seconds),
        high=max(seconds),
        rounds=len(seconds),
        error=error,
    )
