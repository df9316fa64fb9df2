"""How many bits for which layer, under one budget."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AS_IS = 16
"""Stands for the dtype that a tensor has: no packing, no error."""

WIDTHS = (2, 4, 8, AS_IS)
"""Bits an element, from the fewest."""


@dataclass(frozen=True)
class Layer:
    """One layer's part in the choice.

    Attributes:
        name: Its name.
        error: c in the variance c / (2**bits - 1)**2 that packing adds to gradients; >= 0.
        size: Bytes for each of `WIDTHS`; grows with the width.
    """

    name: str
    error: float
    size: Mapping[int, int]


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        bits: One of `WIDTHS` for each layer.
        size: Bytes that this takes, fixed ones included.
        error: The sum of the variances.
        feasible: Whether `size` is within the budget; where not, all layers have the least.
    """

    bits: dict[str, int]
    size: int
    error: float
    feasible: bool


def variance(layer: Layer, bits: int) -> float:
    """The variance that packing `layer` in `bits` adds to gradients."""
    return 0.0 if bits == AS_IS else layer.error / (2**bits - 1) ** 2


def choose_bits(layers: Sequence[Layer], budget: int, fixed: int = 0) -> Choice:
    """Lower the sum of variances as far as the budget allows.

    From the least width for all, the step that lowers the sum most for each byte is taken next,
    until one does not fit. Which step is next does not depend on the budget, so a larger budget
    gives no layer fewer bits. Variances fall faster than bytes rise, so what is missed against the
    best choice is less than that last step would have gained.

    Args:
        layers: Names differ.
        budget: Bytes.
        fixed: Bytes that are taken in any case.
    """
    bits = {layer.name: WIDTHS[0] for layer in layers}
    size = fixed + sum(layer.size[WIDTHS[0]] for layer in layers)
    feasible = size <= budget
    steps = [_step(layer, index, 0) for index, layer in enumerate(layers)]
    heapq.heapify(steps)
    while feasible and steps:
        _, index, rung, cost = heapq.heappop(steps)
        if size + cost > budget:
            break
        layer = layers[index]
        size += cost
        bits[layer.name] = WIDTHS[rung + 1]
        if rung + 2 < len(WIDTHS):
            heapq.heappush(steps, _step(layer, index, rung + 1))
    error = sum(variance(layer, bits[layer.name]) for layer in layers)
    return Choice(bits, size, error, feasible)


def _step(layer: Layer, index: int, rung: int) -> tuple[float, int, int, int]:
    low, high = WIDTHS[rung], WIDTHS[rung + 1]
    cost = layer.size[high] - layer.size[low]
    gain = variance(layer, low) - variance(layer, high)
    return -(gain / cost if cost > 0 else float("inf")), index, rung, cost
