"""What one forward saved, in figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ds_dmp.lean.budget import AS_IS, WIDTHS, Layer
from ds_dmp.lean.quantize import GRID_BYTES, GROUP

MECHANISMS = ("kept", "packed", "recomputed", "weight casts")
"""What becomes of saved tensors: the keys of a report's totals. `recomputed` has the masks too."""


@dataclass
class Sum:
    """Tensors that went the same way.

    Attributes:
        tensors: How many.
        before: Bytes that they would take in their own dtype.
        float32: Bytes that they would take had the model computed in float32.
        now: Bytes that they take.
        error: The sum of relative errors, of those that were measured.
        measured: How many were.
    """

    tensors: int = 0
    before: int = 0
    float32: int = 0
    now: int = 0
    error: float = 0.0
    measured: int = 0

    def add(self, other: Sum) -> None:
        """Count `other` in."""
        self.tensors += other.tensors
        self.before += other.before
        self.float32 += other.float32
        self.now += other.now
        self.error += other.error
        self.measured += other.measured

    def row(self) -> dict[str, Any]:
        """For a report; the error is the mean, None where none was measured."""
        return {
            "tensors": self.tensors,
            "before": self.before,
            "float32": self.float32,
            "now": self.now,
            "error": self.error / self.measured if self.measured else None,
        }


@dataclass
class LayerFigures:
    """What one layer saved, and what a choice of bits needs to know of it.

    Attributes:
        sums: By mechanism.
        numel: Elements that are packed, or would be with fewer bits.
        groups: Their groups.
        before: Their bytes in their own dtype.
        now: Their bytes now.
        spread: The sum over elements of the squared range of their group; of packed ones alone.
    """

    sums: dict[str, Sum] = field(default_factory=dict)
    numel: int = 0
    groups: int = 0
    before: int = 0
    now: int = 0
    spread: float = 0.0

    def note(self, numel: int, before: int, now: int, spread: float) -> None:
        """Count in a tensor that is packed, or would be with fewer bits."""
        self.numel += numel
        self.groups += -(-numel // GROUP)
        self.before += before
        self.now += now
        self.spread += spread

    def total(self) -> Sum:
        """Of all mechanisms."""
        total = Sum()
        for sum in self.sums.values():
            total.add(sum)
        return total


class Figures:
    """The figures of one forward, by layer."""

    def __init__(self) -> None:
        self.layers: dict[str, LayerFigures] = {}

    def layer(self, name: str) -> LayerFigures:
        """The figures of one layer; new ones where there are none."""
        return self.layers.setdefault(name, LayerFigures())

    def add(self, layer: str, mechanism: str, sum: Sum) -> None:
        """Count in what became of tensors."""
        self.layer(layer).sums.setdefault(mechanism, Sum()).add(sum)

    def total(self, mechanism: str | None = None) -> Sum:
        """Over all layers, of one mechanism or of all."""
        total = Sum()
        for layer in self.layers.values():
            total.add(layer.total() if mechanism is None else layer.sums.get(mechanism, Sum()))
        return total

    def rows(self, bits: Callable[[str], int]) -> list[dict[str, Any]]:
        """One row for each layer that saved something; without bits where nothing was packed."""
        return [
            {"layer": name, "bits": bits(name) if layer.numel else None, **layer.total().row()}
            for name, layer in self.layers.items()
        ]

    def candidates(
        self, spreads: Mapping[str, float], gradient_mean_square: Mapping[str, float]
    ) -> tuple[list[Layer], int]:
        """What a choice of bits needs, and the bytes that it cannot change.

        A number that is rounded stochastically on a grid has a variance of a sixth of the squared
        step; in a weight gradient each meets an output gradient. A layer whose output gradients
        are not known counts as the median of the others.
        """
        known = sorted(gradient_mean_square.values())
        middle = known[len(known) // 2] if known else 1.0
        layers = []
        fixed = self.total().now
        for name, layer in self.layers.items():
            if not layer.numel:
                continue
            fixed -= layer.now
            grid = GRID_BYTES * layer.groups
            elements = GROUP * layer.groups
            size = {bits: elements * bits // 8 + grid for bits in WIDTHS if bits != AS_IS}
            size[AS_IS] = layer.before
            error = spreads.get(name, 0.0) * gradient_mean_square.get(name, middle) / 6
            layers.append(Layer(name, error, size))
        return layers, fixed
