"""What is reduced, and what its exact sum is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PERIOD = 1 << 16
"""Numbers repeat after so many, as drawing more would take longer than reducing them."""


def numbers(rank: int, elements: int) -> Tensor:
    """A rank's float32 numbers, normal ones that every rank can draw again."""
    return _period(rank).repeat(-(-elements // _PERIOD))[:elements].clone()


def error(result: Tensor, ranks: int) -> float:
    """Relative L2 distance of a sum from the exact one, which is made in float64."""
    import torch

    exact = torch.stack([_period(rank).double() for rank in range(ranks)]).sum(0)
    off = total = 0.0
    for part in torch.split(result, _PERIOD):
        right = exact[: part.numel()]
        off += float((part.double() - right).square().sum())
        total += float(right.square().sum())
    return float((off / total) ** 0.5)


def _period(rank: int) -> Tensor:
    import torch

    return torch.randn(_PERIOD, generator=torch.Generator().manual_seed(rank + 1))
