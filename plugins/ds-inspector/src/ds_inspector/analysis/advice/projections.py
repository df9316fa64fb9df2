"""Query, key and value projected one by one."""

from __future__ import annotations

import re

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.operators import flops_of

_NAMES = re.compile(r"(?P<owner>.*?)\.?(?P<part>q|k|v|query|key|value)(_?(proj|lin|linear))?")
_LEAST = 0.01
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as if they were as fast as the fastest product of the recording's larger ones."""
    modules = facts.recording.events.texts("module")
    owners: dict[str, dict[str, list[int]]] = {}
    for code, name in enumerate(modules.values):
        if found := _NAMES.fullmatch(name):
            owners.setdefault(found["owner"], {}).setdefault(found["part"][0], []).append(code)
    three = [
        code
        for parts in owners.values()
        if len(parts) == 3
        for codes in parts.values()
        for code in codes
    ]
    product = facts.named("mm", "addmm", "bmm") & facts.leaf & (facts.own > 0)
    rows = product & np.isin(modules.codes, three) & facts.is_("phase", "forward", "other", "")
    flops = flops_of(facts.recording)
    rows &= ~np.isnan(flops)
    if not rows.any():
        return None
    larger = product & (flops > flops[rows].max()) & ~facts.is_("phase", "optimizer")
    if not larger.any():
        return None
    best = float(np.quantile(flops[larger] / facts.own[larger], 0.75))
    gain = facts.seconds(rows) - facts.seconds(rows, flops) / best
    share = gain / facts.step_seconds
    if share < _LEAST:
        return None
    rate = float(flops[rows].sum() / facts.own[rows].sum())
    return Finding(
        id="separate-projections",
        title="Query, key and value in separate products",
        evidence=f"{facts.calls(rows):.3g} products in a step make query, key and value apart, at "
        f"{rate / 1e9:.3g} GFLOP/s; larger ones reach {best / 1e9:.3g}.",
        remedy="Put the three weights into one linear layer and split its output. The estimate, "
        f"{percent(share)} or {spent(gain)}, is that it reaches the larger ones' rate.",
        seconds=facts.seconds(rows),
        estimate=share,
        **facts.place(rows),
    )
