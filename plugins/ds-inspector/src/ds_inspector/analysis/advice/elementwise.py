"""Chains of operators that each read and write all elements."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

OPERATORS = (
    *("add", "sub", "rsub", "mul", "div", "neg", "pow", "exp", "log", "sqrt", "rsqrt", "square"),
    *("abs", "tanh", "sigmoid", "erf", "relu", "gelu", "silu", "leaky_relu", "hardtanh", "clamp"),
    *("clamp_min", "clamp_max", "where", "maximum", "minimum", "softplus", "elu", "hardswish"),
    *(
        "reciprocal",
        "log1p",
        "expm1",
        "mish",
        "sin",
        "cos",
        "lerp",
        "addcmul",
        "addcdiv",
        "masked_fill",
        "threshold",
    ),
)
_CHAIN = 3
_LEAST = 0.05
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all but one of the passes over the elements for each chain."""
    wanted = facts.named(*OPERATORS, *(f"{name}_" for name in OPERATORS)) & facts.leaf
    wanted &= facts.is_("phase", "forward", "other", "")
    chains = [chain for chain in facts.runs(wanted) if len(chain) >= _CHAIN]
    if not chains:
        return None
    rows, saved = np.zeros(len(facts.own), bool), np.zeros(len(facts.own))
    for chain in chains:
        rows[chain] = True
        saved[chain] = facts.own[chain] * (1 - 1 / len(chain))
    share = facts.share(rows, saved)
    if share < _LEAST:
        return None
    count, longest = len(chains) / len(facts.lengths), max(map(len, chains))
    return Finding(
        id="unfused-elementwise",
        title="Chains of element-wise operators",
        evidence=f"{count:.3g} chains of {_CHAIN} to {longest} element-wise operators in a step "
        f"take {spent(facts.seconds(rows))}, and each operator reads and writes all elements.",
        remedy="Use torch's own function where there is one, as gelu, silu or layer_norm, or fuse "
        f"them with torch.compile. The estimate, {percent(share)}, is that of each chain one "
        "operator is left.",
        seconds=facts.seconds(rows),
        estimate=share,
        pass_="torch.compile",
        **facts.place(rows),
    )
