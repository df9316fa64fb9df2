"""Changes to a model in place, each of which can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_prune.surgery.optimizer_state import sliced_state
from ds_prune.surgery.slicing import sliced

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_prune.surgery.record import Dims, Value


class Ledger:
    """Makes changes and remembers how to take them back, last first."""

    def __init__(self) -> None:
        self._back: list[Callable[[], None]] = []

    def undo(self) -> None:
        """Take back everything."""
        while self._back:
            self._back.pop()()

    def forget(self) -> None:
        """Let go of what was; it cannot be taken back from now on."""
        self._back.clear()

    def cut(self, name: str, tensor: Tensor, kept: Dims, optimizers: Iterable[Optimizer]) -> None:
        """Leave only what is kept of a parameter or buffer, its gradient and its optimizer state.

        Raises:
            RefusedError: It is of a class of its own, or an optimizer holds what cannot be cut.
        """
        import torch

        if type(tensor.data) is not torch.Tensor:
            raise RefusedError(
                f"{name!r} is a {type(tensor.data).__name__}, which cannot be cut in place."
            )
        states = [
            (optimizer.state[tensor], sliced_state(optimizer, name, tensor, kept))
            for optimizer in optimizers
            if tensor in optimizer.state
        ]
        data, grad = tensor.data, tensor.grad
        _put(tensor, sliced(data, kept), None if grad is None else sliced(grad, kept))
        self._back.append(lambda: _put(tensor, data, grad))
        for state, new in states:
            old = {key: state[key] for key in new}
            state.update(new)
            self._back.append(lambda state=state, old=old: state.update(old))  # type: ignore[misc]

    def set(self, module: Module, attribute: str, value: Value | bool) -> None:
        """Give an attribute that is there another value, as the type that it has."""
        old = vars(module)[attribute]
        vars(module)[attribute] = type(old)(value)
        self._back.append(lambda: vars(module).__setitem__(attribute, old))

    def prune_attention(self, module: Any) -> None:
        """Make a `torch.nn.MultiheadAttention` one that can lose heads.

        Raises:
            RefusedError: It cannot become one.
        """
        from ds_prune.multihead import prune_attention, unprune_attention

        prune_attention(module)
        self._back.append(lambda: unprune_attention(module))


def _put(tensor: Tensor, data: Tensor, grad: Tensor | None) -> None:
    """Give a tensor other data, of any shape; the object stays, and so do hooks on it."""
    import torch

    tensor.grad = None
    if tensor.requires_grad:
        # The last graph, if anyone still holds it, keeps the node that accumulates the gradient,
        # and that one insists on the old shape. torch makes another one after a change of dtype.
        other = torch.float32 if tensor.dtype == torch.float16 else torch.float16
        tensor.data = torch.empty(0, dtype=other, device=tensor.device)
    tensor.data = data
    tensor.grad = grad
