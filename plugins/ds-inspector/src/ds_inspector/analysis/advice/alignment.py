"""Channels that do not fill the registers they are computed in."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.flops import CONVOLUTION
from ds_inspector.analysis.operators import flops_of
from ds_inspector.analysis.shapes import Shape, parsed

UNIT = 8
"""Channels that vector units and matrix units are fast for multiples of."""
_LEAST = 0.03
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated from the rate of layers that fit, with the work of those that do not padded."""
    events = facts.recording.events
    names, shapes = events.texts("name"), events.texts("shapes")
    kind = np.array([bool(CONVOLUTION.fullmatch(name)) for name in names.values] or [False])[
        names.codes
    ]
    outer = kind & facts.operator & ~facts.inside_parent(kind)
    weights = [(*parsed(text), (), ())[1] for text in shapes.values]
    known = np.array([len(weight) > 2 for weight in weights] or [False])[shapes.codes]
    padding = np.array([_padding(weight) for weight in weights] or [1.0])[shapes.codes]
    flops, total = flops_of(facts.recording), facts.total
    outer &= known & ~np.isnan(flops) & (total > 0)
    odd, even = outer & (padding > 1), outer & (padding == 1)
    # What is small is slow for other reasons.
    even &= flops >= (np.median(flops[odd]) / 4 if odd.any() else 0)
    if not odd.any() or not even.any():
        return None
    rate = float(flops[even].sum() / total[even].sum())
    seconds = facts.seconds(odd, total)
    after = facts.seconds(odd, flops * padding) / rate
    gain = (seconds - after) / facts.step_seconds
    if gain < _LEAST:
        return None
    slow = float(flops[odd].sum() / total[odd].sum())
    return Finding(
        id="channel-multiples",
        title=f"Channels that are no multiples of {UNIT}",
        evidence=f"Convolutions with channels that are no multiples of {UNIT} take "
        f"{spent(seconds)} of a step and run at {slow / 1e9:.3g} GFLOP/s; the others reach "
        f"{rate / 1e9:.3g}.",
        remedy=f"Round channels up to a multiple of {UNIT}. The estimate, {percent(gain)}, is that "
        "they then compute more, but at the others' rate.",
        seconds=seconds,
        estimate=gain,
        **facts.place(facts.inside(odd) & facts.operator),
    )


def _padding(weight: Shape) -> float:
    """Work with channels rounded up, over work as it is; images have few channels and may."""
    if len(weight) < 3:
        return 1.0
    grow = 1.0
    for channels in weight[:2]:
        if channels > 4:
            grow *= -(-channels // UNIT) * UNIT / channels
    return grow
