"""What of a model's shapes and layout Gaudi's matrix engine likes, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.components.layout import choose_layout
from ds_gaudi.bucketing import ENGINE

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.backend import Backend


def tune(backend: Backend, model: Module, example_inputs: tuple[Any, ...]) -> tuple[str, ...]:
    """Lay out convolutions as they run faster, and name matrices that leave the engine idle.

    Returns:
        One sentence for each; none where there is nothing to say.

    Raises:
        Exception: Whatever the model raises on `example_inputs`; it is left as it was.
    """
    return (*choose_layout(backend, model, example_inputs), *_odd_sides(model))


def _odd_sides(model: Module) -> tuple[str, ...]:
    import torch

    linear = [
        (name or "the model", layer.weight.shape)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    odd = [(name, shape) for name, shape in linear if any(side % ENGINE for side in shape)]
    if not odd:
        return ()
    name, (outputs, inputs) = max(odd, key=lambda entry: entry[1].numel())
    return (
        f"{len(odd)} of {len(linear)} linear layers have sides that are no multiples of {ENGINE}, "
        f"the largest being {name} ({inputs} to {outputs}): the matrix engine is partly idle. They "
        "stay as they are; rounding widths and vocabularies up is the model's own choice.",
    )
