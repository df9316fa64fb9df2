"""The layers whose dtype is chosen, and their forwards, in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_core.nested import map_tensors, tensors_in
from ds_dmp import attention, products, watch

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

    from ds_core.changes import Changes


class Region:
    """Whether a forward of the session runs, and what its layers share."""

    def __init__(self, autocast: Callable[..., Any]) -> None:
        self.autocast = autocast
        self.on = False
        """Layers that are called from elsewhere do as they always did."""
        self.dtype: torch.dtype | None = None
        """What the region around the whole forward computes in."""
        self.closed = False
        """No layer computes in 16 bit: forwards are as without a session."""
        self.compiled = False
        """torch.compile has traced a forward."""
        self.watching = False
        self.order = 0
        # Made now, as torch.compile traces no making of classes.
        self.entering, self.leaving, self.ending = watch.identities()
        self.row: Tensor | None = None
        """Where the statistics of the model's outputs go."""
        self.opens_frozen = False
        """Whether a look asks for gradients of frozen layers that nothing trains before."""


@dataclass
class Layer:
    """One module that multiplies, or that computes attention from its children's products."""

    name: str
    module: Module
    kind: str
    region: Region
    island: bool = False
    """Whether it computes in float32."""
    dtype: torch.dtype | None = None
    """The 16-bit dtype that it computes in, where the region's is another; None for the same."""
    row: Tensor | None = None
    probe: watch.Probe | None = None
    multiply_adds: int = 0
    """Of the forwards in the step that was watched last."""
    saved: int = 0
    """Bytes that its input takes less in 16 bit, likewise."""
    order: int = 0
    """When it was called, among the others."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Of the inputs that it was called with in the step that was watched last."""

    def begin(self) -> None:
        """Forget the step that was watched before."""
        self.multiply_adds = self.saved = 0
        self.shapes = ()


def find(model: Module, skip: Callable[[str, str], None]) -> list[tuple[str, Module, str]]:
    """Names, modules and kinds of all layers of a model, parents before children.

    Args:
        model: Searched with all its modules.
        skip: Told of the name of a module that cannot be taken, and why.
    """
    import torch

    found = []
    owned: set[int] = set()  # torch's attention reads the weights of its children by itself
    for name, module in model.named_modules():
        if id(module) in owned:
            continue
        kind = products.kind_of(module)
        if kind is None:
            continue
        if kind == products.MULTIHEAD:
            owned |= {id(child) for child in module.modules()}
        if module is model and kind == products.ATTENTION:
            skip(name, "the whole model computes attention in one forward")
            continue
        if isinstance(module, torch.jit.ScriptModule) or "forward" in vars(module):
            skip(name, "its forward was replaced on the object itself")
            continue
        found.append((name, module, kind))
    attentions = [name for name, _, kind in found if kind == products.ATTENTION]
    outer = {one for one in attentions if any(two.startswith(f"{one}.") for two in attentions)}
    return [entry for entry in found if entry[0] not in outer]


def surround(layer: Layer, dtypes: Sequence[str], changes: Changes) -> None:
    """Have a layer's forwards compute in its dtype, and be watched when it is time."""
    original = type(layer.module).forward
    layer.probe = products.probe(layer.module, layer.kind, original, dtypes, layer.region.autocast)
    region = layer.region

    @functools.wraps(original)
    def forward(self: Module, *args: Any, **kwargs: Any) -> Any:
        if not region.on:
            return original(self, *args, **kwargs)
        if region.watching:
            return _watched(layer, original, args, kwargs)
        return _in_dtype(layer, original, args, kwargs)

    changes.set_methods(layer.module, forward=forward)


def _in_dtype(layer: Layer, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    region = layer.region
    if layer.island:
        import torch

        with region.autocast(region.dtype or torch.bfloat16, enabled=False):
            args, kwargs = map_tensors(_wide, (args, kwargs))
            return original(layer.module, *args, **kwargs)
    if layer.dtype is not None:
        with region.autocast(layer.dtype):
            return original(layer.module, *args, **kwargs)
    return original(layer.module, *args, **kwargs)


def _watched(layer: Layer, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import torch

    row, compiling = layer.row, torch.compiler.is_compiling()
    given = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    first = given[0] if given else None
    if row is None or first is None or not first.is_floating_point() or not torch.is_grad_enabled():
        return _in_dtype(layer, original, args, kwargs)
    if first.requires_grad:
        inside = layer.region.entering(first, row)
        # Attention is often given one tensor three times, and asks whether it is the same.
        args = tuple(inside if one is first else one for one in args)
        kwargs = {key: inside if one is first else one for key, one in kwargs.items()}
    if layer.kind == products.ATTENTION and not compiling:
        with attention.logit_watch(lambda error: watch.add(row, "logits", error)):
            output = _in_dtype(layer, original, args, kwargs)
    else:
        output = _in_dtype(layer, original, args, kwargs)
    y = next(iter(tensors_in(output)), None)
    if y is None or not y.is_floating_point():
        return output
    with torch.no_grad():
        sample, errors = _observe(layer, first, y, given[1] if len(given) > 1 else first)
    if not compiling:
        _note(layer, first, y)
        if errors and layer.region.opens_frozen:
            y.requires_grad_()  # what its errors do to the loss shows in gradients alone
    if not y.requires_grad:
        return output
    probe = layer.probe
    assert probe is not None
    if not first.requires_grad:
        probe = probe._replace(backward=None)
    seen = layer.region.leaving(y, sample, errors, row, probe)
    return map_tensors(lambda other: seen if other is y else other, output)


def _observe(layer: Layer, x: Tensor, y: Tensor, key: Tensor) -> tuple[Tensor | None, list[Tensor]]:
    """Add what a forward tells; returns a sample of its inputs and the errors of its outputs."""
    import torch

    row, probe = layer.row, layer.probe
    assert row is not None
    assert probe is not None
    watch.add(row, "calls", torch.ones((), device=row.device))
    watch.add(row, "input_peak", *watch.peak(x), *watch.peak(y))
    if layer.kind == products.MULTIHEAD and x.dim() in (2, 3):
        watch.add(row, "logits", products.multihead_logits(layer.module, x, key))
    if probe.forward is None or x.dim() not in probe.dims or x.numel() == 0:
        return None, []
    sample = probe.sample(x).detach().clone()
    reference = probe.forward(sample, "fp32").float()
    low = [probe.forward(sample, dtype) for dtype in probe.dtypes]
    return sample, watch.compare(row, "forward", reference, low)


def watch_output(region: Region, output: Any) -> Any:
    """Have the gradients of the model's outputs seen."""
    row = region.row

    def ending(tensor: Tensor) -> Tensor:
        return region.ending(tensor, row) if tensor.requires_grad else tensor

    return output if row is None else map_tensors(ending, output)


def _note(layer: Layer, x: Tensor, y: Tensor) -> None:
    layer.region.order += 1
    layer.order = layer.region.order
    layer.multiply_adds += products.multiply_adds(layer.module, layer.kind, x, y)
    layer.saved += 2 * x.numel() if x.requires_grad or layer.kind != products.ATTENTION else 0
    layer.shapes = (*layer.shapes, tuple(x.shape))


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 2 else tensor
