"""Functions around a model's forward, without a wrapper and without a trace once undone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_core.nested import tensors_in

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

    from ds_core.changes import Changes
    from ds_core.hookspecs import Around


class Surrounding:
    """Has every forward of a model run inside functions, the first one outermost.

    Args:
        model: Its class is swapped for a subclass whose forward is surrounded.
        arounds: The functions.
        changes: Where the change is recorded.
        keep: What must live for as long as the forward is surrounded, as it alone can undo it.
    """

    def __init__(
        self, model: Module, arounds: Sequence[Around], changes: Changes, keep: object
    ) -> None:
        # Someone may have replaced the method on this very object.
        self._original = None if "forward" in vars(model) else type(model).forward
        changes.set_methods(model, forward=self._forward(arounds), kept_alive=keep)
        self._class = type(model)

    def set(self, arounds: Sequence[Around]) -> None:
        """Replace the functions; without any, the forward is the model's own and costs nothing."""
        if arounds:
            self._class.forward = self._forward(arounds)
        elif "forward" in vars(self._class):
            del self._class.forward

    def _forward(self, arounds: Sequence[Around]) -> Any:
        run = functools.reduce(_nest, arounds)
        original = self._original
        if original is None:
            return _own_forward(run)

        @functools.wraps(original)
        def forward(model: Module, *args: Any, **kwargs: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                return original(model, *args, **kwargs)

            return run(call, args, kwargs)

        return forward


def _nest(outer: Around, inner: Around) -> Around:
    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def next_call(*args: Any, **kwargs: Any) -> Any:
            return inner(call, args, kwargs)

        return outer(next_call, args, kwargs)

    return around


def _own_forward(run: Around) -> property:
    """A property, which goes before the object's own attribute and leaves that as it is."""

    def get(model: Module) -> Callable[..., Any]:
        inner = model.__dict__["forward"]

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return run(inner, args, kwargs)

        return forward

    def put(model: Module, value: Any) -> None:
        model.__dict__["forward"] = value

    return property(get, put)


def check_device(device: torch.device) -> Around:
    """Say what to do about a batch left where it was, before torch complains about the loss."""

    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        places = {tensor.device.type for tensor in tensors_in((args, kwargs))}
        # Some inputs belong on the host, as lengths of sequences do: a batch left behind has none
        # on the device.
        if places and device.type not in places:
            raise RefusedError(
                f"The session placed the model on {device}, but its input is on "
                f"{', '.join(sorted(places))}.",
                mend="Move each batch with `x, y = session.to_device(x, y)`, or attach with "
                f"backend={min(places)!r}.",
            )
        return call(*args, **kwargs)

    return around
