"""Weights that make the most of the inputs that are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_DAMPINGS = 6
"""How often the ridge is made ten times larger before it is given up."""


@dataclass
class Moments:
    """First and second moments of the inputs of a product, in float64 on the host.

    `x` are all inputs in the whole model, `z` those that are left in the smaller one.
    """

    count: int = 0
    x: Tensor | float = 0.0
    z: Tensor | float = 0.0
    zz: Tensor | float = 0.0
    zx: Tensor | float = 0.0

    def add(self, x: Tensor, z: Tensor) -> None:
        """Take note of inputs `[n, features]` and `[n, features left]`, float32, row by row."""
        self.count += len(x)
        self.x = self.x + x.sum(0).double().cpu()
        self.z = self.z + z.sum(0).double().cpu()
        self.zz = self.zz + (z.T @ z).double().cpu()
        self.zx = self.zx + (z.T @ x).double().cpu()


def fit(
    moments: Moments, weight: Tensor, left: Tensor, ridge: float, bias: bool
) -> tuple[Tensor, Tensor] | None:
    """The weight, and what is added to the bias, with which outputs are nearest to the whole ones.

    Minimises the mean squared difference of outputs plus `ridge`, in units of the inputs' mean
    square, times the squared change of the weight. Where that is ill-conditioned, the ridge is
    raised; where nothing helps, only means are made up for.

    Args:
        moments: Of the inputs.
        weight: `[features, outputs]` float64, of the whole model.
        left: `[features left]` int64, which ones these are.
        ridge: From 0 up.
        bias: Whether something may be added to the outputs.

    Returns:
        `[features left, outputs]` and `[outputs]`, float64; None where nothing can be done.
    """
    import torch

    if not moments.count:
        return None
    x, z, zz, zx = (
        torch.as_tensor(sums) / moments.count
        for sums in (moments.x, moments.z, moments.zz, moments.zx)
    )
    if bias:
        zz, zx = zz - torch.outer(z, z), zx - torch.outer(z, x)
    start = weight[left]
    if not (torch.isfinite(zz).all() and torch.isfinite(zx).all() and torch.isfinite(x).all()):
        return None
    change = _solve(zz, zx @ weight - zz @ start, ridge)
    if change is None and not bias:
        return None
    new = start if change is None else start + change
    return new, x @ weight - z @ new if bias else torch.zeros_like(new[0])


def _solve(gram: Tensor, right: Tensor, ridge: float) -> Tensor | None:
    import torch

    scale = gram.diagonal().mean()
    if not scale > 0:
        return None
    for power in range(_DAMPINGS):
        damping = max(ridge, 1e-10) * 10.0**power * scale
        factor, info = torch.linalg.cholesky_ex(gram + damping * torch.eye(len(gram)).to(gram))
        if not info:
            return torch.cholesky_solve(right, factor)
    return None
