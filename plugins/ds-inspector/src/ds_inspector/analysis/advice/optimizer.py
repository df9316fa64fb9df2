"""An optimizer that goes through the parameters one operation at a time."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_MANY = 50
"""Operators in a step."""
_LEAST = 0.03
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated from the bytes that one pass has to move, at the bandwidth that was measured."""
    rows = facts.is_("phase", "optimizer")
    names = facts.recording.events.texts("name")
    fused = np.array(["_fused_" in name for name in names.values] or [False])[names.codes]
    count = facts.calls(rows & facts.leaf)
    if count < _MANY or (rows & fused).any():
        return None
    share = facts.share(rows)
    least = _least_seconds(facts)
    gain = share - least / facts.step_seconds
    if gain < _LEAST:
        return None
    how = (
        "The estimate is what is left of its time when each value is read and written once."
        if least
        else "The estimate is all of its time, as bandwidth or tensors were not recorded."
    )
    return Finding(
        id="unfused-optimizer",
        title="An optimizer in many operations",
        evidence=f"The optimizer calls {count:,.0f} operators in a step, which take "
        f"{spent(facts.seconds(rows))}: {percent(share)} of it.",
        remedy=f"Make it with fused=True. {how}",
        seconds=facts.seconds(rows),
        estimate=gain,
        pass_="fused=True",
        **facts.place(rows & facts.operator),
    )


def _least_seconds(facts: Facts) -> float:
    tensors = facts.recording.tensors
    size = {
        kind: float(tensors.numbers("bytes")[tensors.texts("kind").equal(kind)].sum())
        for kind in ("parameter", "optimizer")
    }
    # Gradients are as large as parameters, and only read.
    moved = 3 * size["parameter"] + 2 * size["optimizer"]
    return moved / facts.peaks["bandwidth"] if facts.peaks.get("bandwidth") else 0.0
