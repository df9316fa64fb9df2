"""Attention that is spelled out."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.elementwise import OPERATORS
from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.02
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as softmax and what is done element by element, which a fused kernel hides."""
    forward = facts.is_("phase", "forward", "other", "") & facts.leaf
    forward &= ~facts.inside(facts.named("scaled_dot_product_attention"))
    modules = facts.recording.events.texts("module")
    products = np.bincount(
        modules.codes[facts.named("bmm", "baddbmm") & forward], minlength=len(modules.values)
    )
    softmax = facts.named("_softmax", "softmax") & facts.leaf & forward
    peaked = np.bincount(modules.codes[softmax], minlength=len(modules.values))
    spelled = ((products >= 2 * peaked) & (peaked > 0))[modules.codes]
    between = facts.named(*OPERATORS, *(f"{name}_" for name in OPERATORS)) & facts.leaf & forward
    rows = spelled & (between | softmax)
    share = facts.share(rows)
    if share < _LEAST:
        return None
    return Finding(
        id="attention",
        title="Attention in several operators",
        evidence=f"{facts.calls(softmax & spelled):.3g} times in a step two products with a "
        "softmax in between are attention; softmax, scaling and masking alone take "
        f"{spent(facts.seconds(rows))}: {percent(share)} of a step.",
        remedy="Call torch.nn.functional.scaled_dot_product_attention. The estimate is the forward "
        "time of what lies between the products.",
        seconds=facts.seconds(rows),
        estimate=share,
        pass_="scaled_dot_product_attention",
        **facts.place(rows),
    )
