"""Times algorithms where they will run, and chooses one for each size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds_nccl_ring.plan import FLAT_BELOW, KIB, MIB, Algorithm, TopologyPlan

if TYPE_CHECKING:
    from torch import Tensor

SIZES = (4 * KIB, FLAT_BELOW, 256 * KIB, MIB, 4 * MIB)
"""Bytes that are timed; larger tensors are treated like the largest."""

BUDGET = 2.0
"""Seconds after which no larger size is begun: enough for all on a wire of 200 Mbit/s."""

MARGIN = 0.97
"""What an algorithm's time must be of the flat one's to be taken in its place."""

Reduce = Callable[["Tensor", Algorithm], Any]
"""All-reduces a tensor by an algorithm and waits."""

Agree = Callable[[list[float]], list[float]]
"""The highest of all ranks' numbers, one by one."""


@dataclass(frozen=True)
class Calibration:
    """What was measured, and what follows from it.

    Attributes:
        algorithms: As in `TopologyPlan.algorithms`.
        seconds: Of each size in bytes and each algorithm, the median over repetitions of the
            slowest rank's time.
    """

    algorithms: tuple[tuple[int, Algorithm], ...]
    seconds: dict[int, dict[str, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For other ranks."""
        return {"algorithms": self.algorithms, "seconds": list(self.seconds.items())}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Calibration:
        """What `as_json` returned, after JSON."""
        return cls(
            tuple((start, name) for start, name in said["algorithms"]),
            dict(said["seconds"]),
        )


def candidates(plan: TopologyPlan) -> list[Algorithm]:
    """What may be used under a plan: a lossy algorithm only where it was asked for."""
    names: list[Algorithm] = ["flat", "hierarchical"]
    return names if plan.hierarchical in names else [*names, plan.hierarchical]


def calibrate(
    reduce: Reduce,
    agree: Agree,
    names: Sequence[Algorithm],
    *,
    sizes: Sequence[int] = SIZES,
    budget: float = BUDGET,
    device: str = "cpu",
) -> Calibration:
    """Time `names`, in turns, at growing sizes, and choose; all ranks come to the same result.

    Args:
        reduce: All-reduces.
        agree: Takes the slowest rank's times.
        names: `flat` first; it is kept wherever no other is clearly faster.
        sizes: Bytes, ascending.
        budget: Seconds.
        device: Where the tensors are.
    """
    import torch

    seconds: dict[int, dict[str, float]] = {}
    spent = 0.0
    for size in sizes:
        tensor = torch.linspace(-1, 1, size // 4, dtype=torch.float32, device=device)
        if size < MIB:
            for name in names:
                reduce(tensor, name)  # connections and buffers are made at the first use
        rounds = [
            agree([_timed(reduce, tensor, name) for name in names])
            for _ in range(5 if size < MIB else 2)
        ]
        columns = zip(*rounds, strict=True)
        medians = [statistics.median(column) for column in columns]
        seconds[size] = dict(zip(names, medians, strict=True))
        spent += sum(map(sum, rounds))
        if spent > budget:
            break
    return Calibration(chosen(seconds), seconds)


def chosen(seconds: dict[int, dict[str, float]]) -> tuple[tuple[int, Algorithm], ...]:
    """The fastest algorithm from each measured size up; below the smallest, `flat`."""
    found: list[tuple[int, Algorithm]] = [(0, "flat")]
    for size, times in sorted(seconds.items()):
        name: Any = min(times, key=lambda one: times[one])
        if times[name] > MARGIN * times["flat"]:
            name = "flat"
        if name != found[-1][1]:
            found.append((size, name))
    return tuple(found)


def _timed(reduce: Reduce, tensor: Tensor, name: Algorithm) -> float:
    tensor.clamp_(-1, 1)  # sums of sums must not grow out of range
    start = time.perf_counter()
    reduce(tensor, name)
    return time.perf_counter() - start
