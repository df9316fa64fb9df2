"""The figures at the head of a recording."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ds_inspector.analysis.memory import peak
from ds_inspector.analysis.operators import flops_in_all
from ds_inspector.analysis.paths import by_module
from ds_inspector.analysis.timing import of_owner, timing
from ds_inspector.forest import sum_by
from ds_inspector.recording import Recording


def summary(recording: Recording) -> dict[str, Any]:
    """Where it comes from, its steps, and totals.

    `seconds` is what the flame graph shows in all: of all events that count, within steps and
    outside, and of the gaps in steps. `unmatched_seconds` is its frame of that name by module.
    """
    time, steps = timing(recording), recording.steps

    _, most = peak(recording)
    usage = recording.usage.numbers("bytes")
    return {
        "about": msgspec.to_builtins(recording.about),
        "steps": {"start": steps.numbers("start"), "end": steps.numbers("end")},
        "totals": {
            "seconds": time.seconds,
            "peak_bytes": most or (float(usage.max()) if len(usage) else None),
            "nodes": recording.nodes.rows,
            "events": recording.events.rows,
            "tensors": recording.tensors.rows,
            "unmatched_seconds": unmatched(recording),
            "flops": flops_in_all(recording),
        },
        "phases": phases(recording),
        "count": 1,
    }


def phases(recording: Recording) -> dict[str, float]:
    """Seconds by phase, longest first; what no event accounts for is not among them."""
    time = timing(recording)
    texts = of_owner(recording.events.texts("phase"), time.owner)
    seconds = sum_by(texts.codes, time.own, len(texts.values))
    found: dict[str, float] = {}
    for name, value in zip(texts.values, seconds.tolist(), strict=True):
        if value > 0:
            found[name or "other"] = found.get(name or "other", 0.0) + value
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def unmatched(recording: Recording) -> float:
    """Seconds that no module accounts for."""
    time, paths = timing(recording), by_module(recording)
    inside = (paths.parent == 1) | (np.arange(len(paths.parent)) == 1)
    return float(time.own[inside[paths.events]].sum() + time.gaps.sum())
