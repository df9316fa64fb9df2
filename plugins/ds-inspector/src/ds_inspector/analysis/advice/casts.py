"""The same values converted to another dtype again and again."""

from __future__ import annotations

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.05
"""Share of a step."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all of their time."""
    casts = facts.named("_to_copy") & ~facts.is_("phase", "data")
    rows = facts.inside(casts) & facts.operator
    share = facts.share(rows)
    if share < _LEAST:
        return None
    return Finding(
        id="dtype-casts",
        title="Repeated conversions of dtype",
        evidence=f"{facts.calls(casts):.4g} conversions in a step take "
        f"{spent(facts.seconds(rows))}: {percent(share)} of it.",
        remedy=(
            "Keep regions in one dtype: precision dmp widens autocast's region where that pays. "
            if facts.has_backward
            else "Convert the model once, as with model.to(torch.bfloat16), in place of autocast. "
        )
        + "The estimate is all of their time.",
        seconds=facts.seconds(rows),
        estimate=share,
        pass_="dmp" if facts.has_backward else "torch.nn.Module.to",
        **facts.place(rows),
    )
