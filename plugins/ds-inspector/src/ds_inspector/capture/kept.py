"""Running probe steps on a model without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@contextmanager
def kept(model: Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Whatever runs within, the model, its optimizer and the random state are as before after it.

    Values of parameters and buffers and the optimizer's state are copied, which takes as much
    memory again, and written back in place; gradients are put aside and put back, and gradients of
    other tensors than the model's are not touched. Training modes and the groups' options are
    restored too.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    with torch.no_grad():
        values = [(tensor, tensor.detach().clone()) for tensor in tensors]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    state = _copied(optimizer) if optimizer is not None else None
    random = random_states(model)
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        if optimizer is not None and state is not None:
            _put_back(optimizer, state)
        for restore in random:
            restore()


def _copied(optimizer: Optimizer) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
    from ds_core.nested import map_tensors

    state = {
        parameter: {key: map_tensors(_pair, value) for key, value in entries.items()}
        for parameter, entries in optimizer.state.items()
    }
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return state, groups


class _Pair:
    """A tensor, and the values that it had."""

    def __init__(self, tensor: Any) -> None:
        self.tensor, self.value = tensor, tensor.detach().clone()

    def restored(self) -> Any:
        self.tensor.copy_(self.value)
        return self.tensor


def _pair(tensor: Any) -> Any:
    return _Pair(tensor)


def _put_back(optimizer: Optimizer, kept: Any) -> None:
    import torch

    from ds_core.nested import map_tensors

    state, groups = kept

    def restored(value: Any) -> Any:
        return map_tensors(lambda tensor: tensor, value, _unpaired)

    with torch.no_grad():
        optimizer.state.clear()
        for parameter, entries in state.items():
            optimizer.state[parameter] = {key: restored(value) for key, value in entries.items()}
    for group, options in zip(optimizer.param_groups, groups, strict=True):
        for key in set(group) - set(options) - {"params"}:
            del group[key]
        group.update(options)


def _unpaired(leaf: Any) -> Any:
    return leaf.restored() if isinstance(leaf, _Pair) else leaf


def random_states(model: Module) -> list[Callable[[], Any]]:
    """Actions that put the random state back: the CPU's, the device's and Python's."""
    import random

    import torch

    from ds_core.placement import device_of

    host, python = torch.get_rng_state(), random.getstate()
    restore: list[Callable[[], Any]] = [
        lambda: torch.set_rng_state(host),
        lambda: random.setstate(python),
    ]
    device = device_of(model)
    module = getattr(torch, device.type, None) if device and device.type != "cpu" else None
    if module is not None and hasattr(module, "get_rng_state"):
        state = module.get_rng_state()
        restore.append(lambda: module.set_rng_state(state))
    return restore
