"""A model that computes in double precision for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ds_core.nested import map_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@contextmanager
def doubled(model: Module) -> Iterator[None]:
    """Parameters and buffers of float32 are of float64 until the end of the block.

    Where a model ranks or rounds what it computes, float32's own errors decide now and then, and
    the outputs of two ways to compute the same are far apart. Those of float64 hardly ever do.
    Own values and gradients come back bit for bit.
    """
    own: list[tuple[Tensor, Tensor, Tensor | None]] = []
    try:
        for tensor in singles(model):
            own.append((tensor, tensor.data, tensor.grad if tensor.is_leaf else None))
            tensor.grad = None
            tensor.data = tensor.data.double()
        yield
    finally:
        for tensor, data, grad in own:
            tensor.grad = None
            tensor.data = data
            tensor.grad = grad


def singles(model: Module) -> list[Tensor]:
    """Parameters and buffers of float32."""
    import torch

    tensors = (*model.parameters(), *model.buffers())
    return [tensor for tensor in tensors if tensor.dtype == torch.float32]


def in_double(inputs: Any) -> Any:
    """Inputs with tensors of float32 in float64."""
    import torch

    return map_tensors(
        lambda one: one.double() if one.dtype == torch.float32 else one,
        inputs,
    )
