"""Convolutions that run far below what the machine can do."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.flops import CONVOLUTION
from ds_inspector.analysis.operators import flops_of
from ds_inspector.analysis.roofline import bounds

_SLOW = 0.35
"""Share of the peak below which a layer's convolutions are slow."""
_REACHED = 0.5
"""Share of the peak that one in a layout that suits it reaches."""
_LEAST = 0.05
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated as if the slow ones reached half of the peak that binds them."""
    events = facts.recording.events
    names, dtypes = events.texts("name"), events.texts("dtype")
    kind = np.array([bool(CONVOLUTION.fullmatch(name)) for name in names.values] or [False])[
        names.codes
    ]
    outer = kind & facts.operator & ~facts.inside_parent(kind) & ~facts.is_("phase", "backward")
    total = facts.total
    kinds = [dtypes.values[code] for code in dtypes.codes[outer].tolist()]
    _, share = bounds(
        flops_of(facts.recording)[outer], events.numbers("bytes")[outer], total[outer], kinds,
        facts.peaks,
    )  # fmt: skip
    reached = np.full(events.rows, np.nan)
    reached[outer] = share
    slow = outer & (np.nan_to_num(reached, nan=1.0) < _SLOW)
    saved = np.where(slow, total * (1 - np.nan_to_num(reached) / _REACHED), 0.0)
    gain = facts.share(slow, saved)
    if gain < _LEAST:
        return None
    seconds = facts.seconds(slow, total)
    usual = float((reached[slow] * total[slow]).sum() / total[slow].sum())
    return Finding(
        id="slow-convolutions",
        title="Convolutions far below the machine's peak",
        evidence=f"{facts.calls(slow):.3g} convolutions in a step take {spent(seconds)}, "
        f"{percent(facts.share(slow, total))} of it, and reach {percent(usual)} of the peak that "
        "binds them.",
        remedy="Try channels_last for model and input, as a backend's tune() does, which keeps the "
        f"faster layout. The estimate is that they then reach {percent(_REACHED)} of the peak.",
        seconds=seconds,
        estimate=gain,
        pass_="tune",
        **facts.place(facts.inside(slow) & facts.operator),
    )
