"""Weights with which a mistake shows in the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

_TINY = 1e-3
_GAIN = 0.5


@contextmanager
def telling_weights(model: Module) -> Iterator[None]:
    """Vary parameters that hide what a model computes, until the end of the block.

    Fresh models have biases of 0, scales of 1, and often a scale of 0 or 1e-6 behind each block.
    Matrices that were initialised small make attention look at all tokens alike, and blocks add
    little to what goes past them. So parameters that are constant or tiny get a random number
    between 0.05 and 0.15 added to each element, and matrices and kernels are scaled such that their
    outputs are about as large as their inputs, where they are smaller.

    Own values come back bit for bit, as they are put aside and not computed with.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    own: list[tuple[Tensor, Tensor]] = []
    try:
        for parameter in model.parameters():
            data = parameter.data
            if data.is_floating_point() and data.numel() and not data.is_meta:
                own.append((parameter, data))
                parameter.data = _telling(data, generator)
        yield
    finally:
        for changed, data in own:
            changed.data = data


def _telling(data: Tensor, generator: Generator) -> Tensor:
    import torch

    low, high = torch.stack([data.min(), data.max()]).tolist()
    if (low == high and data.numel() > 1) or max(-low, high) < _TINY:
        noise = torch.rand(data.shape, generator=generator) / 10 + 0.05
        data = data + noise.to(data.device, data.dtype)
    if data.dim() > 1:
        inputs = data.numel() // data.shape[0]
        gain = float(data.double().square().mean().sqrt()) * inputs**0.5
        if 0 < gain < _GAIN:
            data = data / gain
    return data
