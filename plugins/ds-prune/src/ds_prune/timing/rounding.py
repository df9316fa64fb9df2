"""Of which number widths should be multiples on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ds_core.components.layout import undisturbed
from ds_prune.structure import Structure
from ds_prune.timing.layers import called_layers
from ds_prune.timing.timer import Timer, interleaved

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components import Backend

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""What may be suggested."""

_TOLERANCE = 1.1
_LAYERS = 4
"""How many layers are measured: those with most multiply-adds."""


def suggest_round_to(
    backend: Backend,
    model: Module,
    structure: Structure,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    timer: Timer | None = None,
) -> int:
    """The least multiple in `MULTIPLES` such that neither it nor a greater one wastes time.

    The largest layers are measured at a multiple of 64 outputs and at `r` fewer, which is an odd
    multiple of `r`, for every `r`. One wastes time where an output then takes over 1.1 times as
    long as at the multiple of 64. Where no layer has 64 outputs that may go, there is nothing to
    tell and 1 is suggested.
    """
    kwargs = kwargs or {}
    time = timer or interleaved(backend)
    work: dict[str, int] = {}
    for one in structure.work:
        work[one.layer] = work.get(one.layer, 0) + one.multiply_adds({})
    total = dict.fromkeys(MULTIPLES, 0.0)
    with undisturbed(backend, model):
        layers = [
            layer
            for layer in called_layers(model, structure, args, kwargs)
            if layer.outputs.parts and layer.outputs.size({}) >= MULTIPLES[-1]
        ]
        layers.sort(key=lambda layer: work.get(layer.name, 0), reverse=True)
        for layer in layers[:_LAYERS]:
            inputs, outputs = layer.inputs.size({}), layer.outputs.size({})
            base = outputs - outputs % MULTIPLES[-1]
            widths = [base - r if r < MULTIPLES[-1] else base for r in MULTIPLES]
            seconds = time([layer.at(inputs, width) for width in widths])
            for r, width, taken in zip(MULTIPLES, widths, seconds, strict=True):
                total[r] += taken * base / width
    suggested = MULTIPLES[-1]
    for r in reversed(MULTIPLES):
        if total[r] > _TOLERANCE * total[MULTIPLES[-1]]:
            break
        suggested = r
    return suggested
