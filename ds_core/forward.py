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


def surround(model: Module, arounds: Sequence[Around], changes: Changes, keep: object) -> None:
    """Have every forward of `model` run inside `arounds`, the first one outermost.

    Args:
        model: Its class is swapped for a subclass whose forward is surrounded.
        arounds: At least one.
        changes: Where the change is recorded.
        keep: What must live for as long as the forward is surrounded, as it alone can undo it.
    """
    run = functools.reduce(_nest, arounds)
    if "forward" in vars(model):  # someone replaced the method on this very object
        changes.set_methods(model, forward=_own_forward(run, keep))
        return
    original = type(model).forward

    @functools.wraps(original)
    def forward(model: Module, *args: Any, **kwargs: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return original(model, *args, **kwargs)

        return run(call, args, kwargs)

    forward.keep = keep  # type: ignore[attr-defined]
    changes.set_methods(model, forward=forward)


def _nest(outer: Around, inner: Around) -> Around:
    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def next_call(*args: Any, **kwargs: Any) -> Any:
            return inner(call, args, kwargs)

        return outer(next_call, args, kwargs)

    return around


def _own_forward(run: Around, keep: object) -> property:
    """A property, which goes before the object's own attribute and leaves that as it is."""

    def get(model: Module) -> Callable[..., Any]:
        inner = model.__dict__["forward"]

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            return run(inner, args, kwargs)

        return forward

    def put(model: Module, value: Any) -> None:
        model.__dict__["forward"] = value

    get.keep = keep  # type: ignore[attr-defined]
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
