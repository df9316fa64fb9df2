"""Times the algorithms of a group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ds_nccl_ring import selector

if TYPE_CHECKING:
    from torch import Tensor

    from ds_nccl_ring.group import Group


def calibrate_group(group: Group) -> selector.Calibration:
    """Time what the group's plan allows, and let the plan choose by it; every rank calls it."""
    found = selector.calibrate(_reduce(group), _agree(group), selector.candidates(group.plan))
    group.plan = group.plan.model_copy(update={"algorithms": found.algorithms})
    return found


def _reduce(group: Group) -> Callable[[Tensor, str], None]:
    def reduce(tensor: Tensor, name: str) -> None:
        group.all_reduce(tensor, algorithm=name).wait()

    return reduce


def _agree(group: Group) -> Callable[[list[float]], list[float]]:
    def agree(numbers: list[float]) -> list[float]:
        import torch

        told = torch.tensor(numbers, dtype=torch.float64)
        group.all_reduce(told, "max", algorithm="flat").wait()
        highest: list[float] = told.tolist()
        return highest

    return agree
