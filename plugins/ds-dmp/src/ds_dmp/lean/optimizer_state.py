"""Optimizer state in bfloat16 between steps."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ds_dmp.lean.geometry import geometry_of, is_plain
from ds_dmp.lean.noise import Noise, add_window

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

SMALLEST = 4096
"""Elements below which a state tensor stays as it is."""


def round_to_bfloat16(values: Tensor, noise: Noise) -> Tensor:
    """Round stochastically: up or down, such that the expectation is the value.

    A momentum that decays by a hundredth a step would stand still if it were rounded to nearest.

    Args:
        values: float32, of any size.
        noise: Where random numbers come from.

    Returns:
        bfloat16 of the same size and strides. nan and inf stay what they are, and what bfloat16
        holds exactly stays exact.
    """
    import torch

    geometry = geometry_of(values)
    if geometry is None or not geometry.dense or geometry.distinct != geometry.size:
        return round_to_bfloat16(torch.empty_like(values).copy_(values), noise)
    result = torch.empty_like(values, dtype=torch.bfloat16)
    flat = geometry.flatten(values)
    # A bfloat16 is the upper half of a float32: what is added below carries into it.
    bits = flat.view(torch.int32).clone()
    add_window(bits, noise.integers(values.device))
    largest = torch.finfo(torch.bfloat16).max
    rounded = bits.bitwise_and_(-(1 << 16)).view(torch.float32).clamp_(-largest, largest)
    geometry.flatten(result).copy_(torch.where(flat.isfinite(), rounded, flat))
    return result


class OptimizerState:
    """Holds optimizers' state in bfloat16 between their steps.

    Taken are float32 tensors of at least `SMALLEST` elements and their parameter's size: momenta
    and second moments of any optimizer, also those that it adds later. An optimizer's `state_dict`
    has them in bfloat16 then; torch loads it as float32, exactly.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._names: weakref.WeakKeyDictionary[Optimizer, set[str]] = weakref.WeakKeyDictionary()

    def expand(self, optimizer: Optimizer) -> None:
        """Make float32 again what `compress` took."""
        import torch

        names = self._names.get(optimizer, set())
        for state, name, value, parameter in _tensors(optimizer):
            taken = value.dtype == torch.bfloat16 and parameter.dtype == torch.float32
            if taken and name in names:
                state[name] = value.float()

    def compress(self, optimizer: Optimizer) -> None:
        """Round all state that can be."""
        import torch

        names = self._names.setdefault(optimizer, set())
        for state, name, value, parameter in _tensors(optimizer):
            if value.dtype == parameter.dtype == torch.float32 and value.numel() >= SMALLEST:
                state[name] = round_to_bfloat16(value, self._noise)
                names.add(name)

    def restore(self) -> None:
        """Make everything float32 again, for good."""
        for optimizer in list(self._names):
            self.expand(optimizer)
        self._names.clear()

    def figures(self) -> dict[str, int]:
        """Tensors that are held in bfloat16 now, their bytes as float32 and as they are."""
        import torch

        held = [
            value.numel()
            for optimizer, names in self._names.items()
            for _, name, value, _ in _tensors(optimizer)
            if name in names and value.dtype == torch.bfloat16
        ]
        return {"tensors": len(held), "float32": 4 * sum(held), "now": 2 * sum(held)}


def _tensors(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], str, Tensor, Tensor]]:
    """The state, name, value and parameter of each state tensor of its parameter's size."""
    import torch

    for parameter, state in list(optimizer.state.items()):
        if not isinstance(parameter, torch.Tensor) or not isinstance(state, dict):
            continue
        for name, value in list(state.items()):
            if is_plain(value) and value.shape == parameter.shape:
                yield state, name, value, parameter
