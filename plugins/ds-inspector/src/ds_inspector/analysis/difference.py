"""What changed between two recordings, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ds_inspector.analysis.once import once
from ds_inspector.analysis.operators import is_operator, own_seconds
from ds_inspector.analysis.shift import Interval, ratio_of, shift
from ds_inspector.analysis.timing import of_owner, timing
from ds_inspector.forest import Floats, sum_by
from ds_inspector.recording import Recording, Texts

MOST = 500
"""Modules, and operators, that are returned: those that changed most."""

_FEW = 3
"""Modules that say nothing of which model they are of."""
_COMMON = 0.2
"""Of the modules of the smaller model, those that are the other's, too, if it is the same model."""


def difference(before: Recording, after: Recording) -> dict[str, Any]:
    """Steps, modules and operators before and after, in seconds of a step.

    `low` and `high` enclose a change with 95% confidence, from how steps differ among themselves
    (`shift`); with too few steps they are None and nothing is `sure`. A change is sure where zero
    is not between them. `problems` are what speaks against comparing the two, a sentence each.

    Args:
        before: An earlier recording.
        after: A later one.
    """
    first, second = step_seconds(before), step_seconds(after)
    ratio = ratio_of(first, second)
    return {
        "steps": {
            "before": _spread(first),
            "after": _spread(second),
            "ratio": ratio.middle,
            "low": ratio.low,
            "high": ratio.high,
        },
        "modules": _compared("module", by_step(before, "module"), by_step(after, "module")),
        "operators": _compared("op", by_step(before, "name"), by_step(after, "name")),
        "problems": [] if alike(before, after) else [_UNLIKE],
    }


def alike(before: Recording, after: Recording) -> bool:
    """Whether two recordings may be of the same model, by the names of its modules."""
    one, other = (set(by_step(each, "module")) - {""} for each in (before, after))
    least = min(len(one), len(other))
    return least < _FEW or len(one & other) >= _COMMON * least


_UNLIKE = "Few of their modules have the same names: they seem to be of different models."


def step_seconds(recording: Recording) -> Floats:
    """How long each step took; one of them where none were told apart."""
    spans = timing(recording).spans
    found: Floats = spans[:, 1] - spans[:, 0]
    return found


def by_step(recording: Recording, column: str) -> dict[str, Floats]:
    """Seconds of each step by the text of a column, `module` or the `name` of operators."""
    return _by_module(recording) if column == "module" else _by_operator(recording)


@once
def _by_module(recording: Recording) -> dict[str, Floats]:
    time = timing(recording)
    texts = of_owner(recording.events.texts("module"), time.owner)
    return _sums(recording, texts, time.own)


@once
def _by_operator(recording: Recording) -> dict[str, Floats]:
    own = np.where(is_operator(recording), own_seconds(recording), 0.0)
    return _sums(recording, recording.events.texts("name"), own)


def _sums(recording: Recording, texts: Texts, own: Floats) -> dict[str, Floats]:
    time = timing(recording)
    count = len(time.spans)
    kept = (time.step >= 0) & (own > 0)
    keys = texts.codes[kept].astype(np.int64) * max(count, 1) + time.step[kept]
    sums = sum_by(keys, own[kept], len(texts.values) * max(count, 1))
    table = sums.reshape(len(texts.values), -1)
    return {texts.values[row]: table[row] for row in np.flatnonzero(table.any(axis=1)).tolist()}


def _compared(
    key: str, before: dict[str, Floats], after: dict[str, Floats]
) -> list[dict[str, Any]]:
    counts = [len(next(iter(side.values()), np.zeros(1))) for side in (before, after)]
    rows = []
    for name in {**before, **after}:
        first = before.get(name, np.zeros(counts[0]))
        second = after.get(name, np.zeros(counts[1]))
        change = shift(first, second)
        rows.append((name, float(np.median(first)), float(np.median(second)), change))
    rows.sort(key=lambda row: -abs(row[3].middle))
    return [
        {
            key: name,
            "before": old,
            "after": new,
            "change": change.middle,
            "low": change.low,
            "high": change.high,
            "sure": _is_sure(change),
        }
        for name, old, new, change in rows[:MOST]
    ]


def _is_sure(change: Interval) -> bool:
    return change.low is not None and change.high is not None and change.low * change.high > 0


def _spread(values: Sequence[float] | Floats) -> dict[str, float | None]:
    if not len(values):
        return {"median": None, "low": None, "high": None}
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {"median": middle, "low": low, "high": high}
