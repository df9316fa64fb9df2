"""One loss scale for all layers in float16, chosen from their gradients and not by trial.

A scale is right where no layer's gradients vanish and none overflows. Each layer asks for an
interval; where the intervals have nothing in common, no scale is right, and the cheapest layers are
taken out of float16 instead of letting the scale follow the worst of them down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """The loss scales that suit one unit, and what it would cost to take the unit out."""

    needed: float
    tolerated: float
    cost: float


def fit(intervals: Mapping[str, Interval], smallest: float = 0.0) -> tuple[float, float, list[str]]:
    """The scales that suit all units but those named.

    Args:
        intervals: By unit.
        smallest: No loss scale is smaller: units that cannot even bear this one are left out.

    Returns:
        The lowest and the highest scale, and the units that had to be left out.
    """
    out = [unit for unit, interval in intervals.items() if interval.tolerated < smallest]
    inside = {unit: interval for unit, interval in intervals.items() if unit not in out}
    while inside:
        needy = max(inside, key=lambda unit: inside[unit].needed)
        brittle = min(inside, key=lambda unit: inside[unit].tolerated)
        low, high = inside[needy].needed, inside[brittle].tolerated
        if low <= high:
            return low, high, out
        worst = min((needy, brittle), key=lambda unit: inside[unit].cost)
        out.append(worst)
        del inside[worst]
    return 0.0, math.inf, out


def nearest(value: float, low: float, high: float) -> float:
    """`value` where it is in `[low, high]`, else the nearest power of two that is."""
    if value > high:
        return 2.0 ** math.floor(math.log2(high)) if high > 0 else value
    if value < low:
        return 2.0 ** math.ceil(math.log2(low))
    return value
