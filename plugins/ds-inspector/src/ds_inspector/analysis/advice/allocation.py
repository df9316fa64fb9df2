"""Memory that is asked for and filled more often than it is used."""

from __future__ import annotations

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.05
"""Share of a step."""
_ALLOCATING = ("empty", "empty_strided", "empty_like", "resize_", "new_empty", "empty_permuted")
_FILLING = ("zero_", "fill_", "zeros", "ones", "full", "zeros_like", "ones_like")


def find(facts: Facts) -> Finding | None:
    """Estimated as all of it."""
    filling, allocating = facts.named(*_FILLING), facts.named(*_ALLOCATING)
    rows = filling | allocating
    share = facts.share(rows)
    if share < _LEAST:
        return None
    return Finding(
        id="allocation",
        title="Allocating and filling memory",
        evidence=f"{facts.calls(allocating):.4g} allocations and {facts.calls(filling):.4g} fills "
        f"in a step take {spent(facts.seconds(rows))}: {percent(share)} of it.",
        remedy="Make buffers once and write into them (out=, in-place operators), and let "
        "zero_grad() set gradients to None. The estimate is all of their time.",
        seconds=facts.seconds(rows),
        estimate=share,
        **facts.place(rows),
    )
