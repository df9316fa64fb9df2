"""Copies of the same values into another layout."""

from __future__ import annotations

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.03
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all of the time in the copies."""
    copies = facts.named("contiguous", "clone", "_reshape_copy") & (facts.ranks() >= 3)
    rows = facts.inside(copies) & ~facts.inside(facts.named("to", "_to_copy"))
    rows &= facts.operator & ~facts.is_("phase", "optimizer", "data")
    share = facts.share(rows)
    if share < _LEAST:
        return None
    convolves = facts.named("convolution", "mkldnn_convolution", "cudnn_convolution").any()
    remedy = (
        "Convert model and input once with .to(memory_format=torch.channels_last), and leave out "
        "what converts in between; a backend's tune() measures which layout is faster."
        if convolves
        else "Use what takes views, as scaled_dot_product_attention or einsum, in place of "
        "contiguous() after a transpose."
    )
    return Finding(
        id="layout-copies",
        title="Copies into another layout",
        evidence=f"{facts.calls(copies & ~facts.inside_parent(copies)):.3g} calls of contiguous() "
        f"and clone() in a step copy values as they are, in {spent(facts.seconds(rows))}: "
        f"{percent(share)} of it.",
        remedy=f"{remedy} The estimate is all of their time.",
        seconds=facts.seconds(rows),
        estimate=share,
        pass_="tune" if convolves else None,
        **facts.place(rows),
    )
