"""Layers that change their dtype together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ds_dmp.layers import Layer
from ds_dmp.products import ATTENTION


@dataclass
class Unit:
    """Some layers with one dtype: an attention with its projections, a block, or one layer."""

    name: str
    layers: list[Layer] = field(default_factory=list)

    @property
    def multiply_adds(self) -> int:
        """Of the step that was watched last; 0 where shapes were not seen."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def weights(self) -> int:
        """Numbers that its layers multiply by."""
        matrices = [p for layer in self.layers for p in layer.module.parameters() if p.dim() > 1]
        return sum(matrix.numel() for matrix in matrices)

    @property
    def kind(self) -> str:
        """Of the layer that it is named after."""
        return self.layers[0].kind if len(self.layers) == 1 else f"{len(self.layers)} layers"


def grouped(layers: Sequence[Layer], group: str) -> list[Unit]:
    """The units of a model.

    Fused attention computes in one dtype with the projections that feed it, so these are a unit
    whatever is asked for.

    Args:
        layers: Parents before children.
        group: `layer`, or `block`: what stands under the same numbered child is a unit.
    """
    units: dict[str, Unit] = {}
    attentions = [layer.name for layer in layers if layer.kind == ATTENTION]
    for layer in layers:
        home = next(
            (name for name in attentions if f"{layer.name}.".startswith(f"{name}.")), layer.name
        )
        if group == "block":
            home = _block(home)
        units.setdefault(home, Unit(home)).layers.append(layer)
    return list(units.values())


def _block(name: str) -> str:
    """Up to the last number in a module's name, as blocks in lists have."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts[:-1]) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1]) if numbers else name
