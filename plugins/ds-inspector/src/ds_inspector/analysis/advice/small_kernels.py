"""Operators so small that calling them is what takes the time."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_SMALL = 20e-6
"""Seconds below which an operator is small."""
_LEAST = 0.25
"""Share of a step that small operators and what lies between them must take."""
_MANY = 20
"""Operators in a step."""


def find(facts: Facts) -> Finding | None:
    """Estimated as the time between operators, which a compiled step does not have."""
    leaf = facts.leaf & ~facts.is_("phase", "optimizer", "data") & (facts.own > 0)
    if not leaf.any() or facts.calls(leaf) < _MANY:
        return None
    lengths = facts.own[leaf]
    median = float(np.median(lengths))
    small = leaf & (facts.own < _SMALL)
    host = ~facts.operator & ~facts.is_("kind", "kernel", "runtime")
    host &= ~facts.is_("phase", "optimizer", "data")
    wrapping = facts.operator & ~facts.leaf & ~facts.is_("phase", "optimizer", "data")
    apart = facts.seconds(host | (wrapping & (facts.own < _SMALL))) + facts.gap
    between = apart / facts.step_seconds
    share = facts.share(small) + between
    if median >= _SMALL or share < _LEAST:
        return None
    return Finding(
        id="small-kernels",
        title="Many small operators",
        evidence=f"Half of {facts.calls(leaf):,.0f} operators in a step take less than "
        f"{spent(median)}; small ones and what lies between operators make up {percent(share)} "
        "of a step.",
        remedy="Compile the model with torch.compile, work on larger batches, or write loops over "
        "parts as one operation. The estimate is the time between operators.",
        seconds=facts.seconds(small) + apart,
        estimate=between,
        pass_="torch.compile",
        **facts.place(small),
    )
