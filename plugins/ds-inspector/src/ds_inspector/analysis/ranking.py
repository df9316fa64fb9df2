"""The costliest operators, whatever their shapes and modules."""

from __future__ import annotations

from typing import Any

import numpy as np

from ds_inspector.analysis.operators import flops_of, is_operator, own_seconds
from ds_inspector.analysis.roofline import bounds, peaks_of
from ds_inspector.analysis.timing import timing
from ds_inspector.forest import sum_by
from ds_inspector.recording import Recording


def ranking(recording: Recording, most: int = 15) -> list[dict[str, Any]]:
    """Operators by name, most time of their own first.

    Args:
        recording: Whose.
        most: How many are told.

    Returns:
        Dicts of `op`, `calls`, `seconds` of its own, `share` of all, `total`, `bytes`, `rate`,
        `share_of_peak` and `bound`; None is unknown.
    """
    events, time = recording.events, timing(recording)
    rows = np.flatnonzero(is_operator(recording))
    names, dtypes = events.texts("name").take(rows), events.texts("dtype").take(rows)
    count = len(names.values)
    calls = np.bincount(names.codes, minlength=count)
    own = sum_by(names.codes, own_seconds(recording)[rows], count)
    total = sum_by(names.codes, time.total[rows], count)
    size = _known(names.codes, events.numbers("bytes")[rows], count)
    flops = _known(names.codes, flops_of(recording)[rows], count)
    first = np.zeros(count, np.int64)
    first[names.codes] = dtypes.codes
    kinds = [dtypes.values[code] for code in first.tolist()] if dtypes.values else []
    bound, share = bounds(flops, size, total, kinds, peaks_of(recording))
    whole = float(own.sum()) or 1.0
    order = [row for row in np.argsort(-own, kind="stable")[:most].tolist() if calls[row]]
    return [
        {
            "op": names.values[row],
            "calls": int(calls[row]),
            "seconds": float(own[row]),
            "share": float(own[row]) / whole,
            "total": float(total[row]),
            "bytes": _plain(size[row]),
            "rate": _plain(flops[row] / total[row]) if total[row] > 0 else None,
            "share_of_peak": _plain(share[row]),
            "bound": bound[row],
        }
        for row in order
    ]


def _known(codes: Any, values: Any, count: int) -> Any:
    there = ~np.isnan(values)
    sums = sum_by(codes[there], values[there], count)
    return np.where(np.bincount(codes[there], minlength=count) > 0, sums, np.nan)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
