"""Batch normalisation that inference could do without."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.flops import CONVOLUTION

_LEAST = 0.01
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all of their time."""
    if facts.has_backward:
        return None
    events = facts.recording.events
    names = events.texts("name")
    outer = facts.named("batch_norm") & ~facts.inside_parent(facts.named("batch_norm"))
    norms = (
        outer
        if outer.any()
        else facts.named(
            "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"
        )
        | facts.is_("name", "BatchNormalization")
    )
    convolution = np.array([bool(CONVOLUTION.fullmatch(name)) for name in names.values])[
        names.codes
    ]
    top = facts.operator & ~facts.inside_parent(facts.operator)
    rows = np.flatnonzero(top)
    follows = np.append(False, convolution[rows[:-1]]) if len(rows) else np.zeros(0, bool)
    folded = np.zeros(events.rows, bool)
    folded[rows[follows & norms[rows]]] = True
    inside = facts.inside(folded)
    share = facts.share(inside)
    if share < _LEAST:
        return None
    return Finding(
        id="batch-norm",
        title="Batch normalisation after convolutions",
        evidence=f"{facts.calls(folded):.3g} batch normalisations directly after a convolution "
        f"take {spent(facts.seconds(inside))} of an inference: {percent(share)} of it.",
        remedy="Fold them into the convolutions with the transform fold-bn. The estimate is all of "
        "their time.",
        seconds=facts.seconds(inside),
        estimate=share,
        pass_="fold-bn",
        **facts.place(inside & facts.operator),
    )
