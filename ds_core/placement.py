"""Moving a model, and what its optimizers remember of it, to a device and back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.changes import Changes


def place(
    model: Module, optimizers: Sequence[Optimizer], device: torch.device, changes: Changes
) -> bool:
    """Move everything to `device`, keeping each parameter the same object; True where it moved.

    A model that is on another device of the same type already stays there: the user chose it.
    """
    home = device_of(model)
    if home is None or home.type == device.type:
        return False
    _move(model, optimizers, device)
    changes.on_undo(lambda: _move(model, optimizers, home))
    return True


def device_of(model: Module) -> torch.device | None:
    """Where the model's first parameter or buffer is; None where it has neither."""
    for tensor in _tensors(model):
        return tensor.device
    return None


def _tensors(model: Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _move(model: Module, optimizers: Sequence[Optimizer], device: torch.device) -> None:
    with _no_weak_references(model):
        for tensor in _tensors(model):
            _move_in_place(tensor, device)
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                state[key] = _moved_state(optimizer, parameter, key, value, device)


@contextmanager
def _no_weak_references(model: Module) -> Iterator[None]:
    """Within, recurrent layers hold none to their weights: torch swaps no tensor that has any."""
    from torch.nn import RNNBase

    layers = [module for module in model.modules() if isinstance(module, RNNBase)]
    for layer in layers:
        layer._flat_weight_refs = []
    try:
        yield
    finally:
        for layer in layers:
            layer._flat_weight_refs = [
                None if weight is None else weakref.ref(weight) for weight in layer._flat_weights
            ]


def _move_in_place(tensor: Tensor, device: torch.device) -> None:
    import torch

    with torch.no_grad():
        gradient = tensor.grad
        tensor.grad = None
        moved = tensor.detach().to(device)
        if torch._has_compatible_shallow_copy_type(tensor, moved):
            tensor.data = moved
        else:  # devices whose tensors are of a type of their own
            fresh = torch.nn.Parameter(moved) if isinstance(tensor, torch.nn.Parameter) else moved
            fresh.requires_grad_(tensor.requires_grad)
            torch.utils.swap_tensors(tensor, fresh)  # type: ignore[no-untyped-call]
        if gradient is not None:
            tensor.grad = gradient.to(device)


def _moved_state(
    optimizer: Optimizer, parameter: Tensor, key: str, value: Any, device: torch.device
) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    if key == "step" and not any(
        group.get("capturable") or group.get("fused") for group in optimizer.param_groups
    ):
        return value  # torch keeps step counters on the host unless a kernel reads them
    return value.to(device)
