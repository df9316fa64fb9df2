"""Live bytes over time, what makes each peak, and how long tensors live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ds_inspector.analysis.once import once
from ds_inspector.analysis.savings import savings
from ds_inspector.forest import Floats, Ints
from ds_inspector.recording import Recording

KINDS = ("parameter", "buffer", "gradient", "optimizer", "input", "activation", "temporary")
"""In the order in which they are stacked; others follow."""
MOST_TIMES = 2000
MOST_LIVES = 2000
_PEAKS = 16
_AT_PEAK = 50


@dataclass(frozen=True)
class Live:
    """Bytes from each time on, until the next: exact, with frees before births at one time."""

    time: Floats
    bytes: Floats


def memory(
    recording: Recording, start: float | None = None, end: float | None = None
) -> dict[str, Any]:
    """Live bytes by kind, peaks and lives, in a window of time.

    At most 2000 times are given: of each stretch the one with most and that with fewest bytes.

    Args:
        recording: Whose tensors.
        start: Seconds; from the beginning where it is None.
        end: Seconds; to the end where it is None.
    """
    tensors, live = recording.tensors, alive(recording)
    low, high = window(live, start, end)
    picked = _picked(live, low, high)
    kinds = [kind for kind in KINDS if kind in tensors.texts("kind").values]
    kinds += sorted(set(tensors.texts("kind").values) - set(KINDS)) if tensors.rows else []
    usage = recording.usage
    inside = (usage.numbers("time") >= low) & (usage.numbers("time") <= high)
    shown = np.flatnonzero(inside)
    if len(shown) > MOST_TIMES:
        shown = shown[_extremes(usage.numbers("bytes")[shown], MOST_TIMES // 2)]
    return {
        "time": picked,
        "kinds": kinds,
        "bytes": {kind: _of_kind(recording, kind, picked) for kind in kinds},
        "usage": {"time": usage.numbers("time")[shown], "bytes": usage.numbers("bytes")[shown]},
        "peaks": [_peak(recording, time) for time in _peaks(recording, live, low, high)],
        "lives": _lives(recording, low, high),
        "would_save": savings(recording, peak(recording)[0]),
    }


@once
def alive(recording: Recording) -> Live:
    """Bytes of all tensors that are alive."""
    return _steps(recording, np.ones(recording.tensors.rows, bool))


def peak(recording: Recording) -> tuple[float, float]:
    """When most bytes are alive, and how many; zeros without tensors."""
    live = alive(recording)
    if not len(live.time):
        return 0.0, 0.0
    place = int(np.argmax(live.bytes))
    return float(live.time[place]), float(live.bytes[place])


def at(live: Live, times: Floats) -> Floats:
    """Bytes at some times."""
    return np.append(0.0, live.bytes)[np.searchsorted(live.time, times, side="right")]


def window(live: Live, start: float | None, end: float | None) -> tuple[float, float]:
    """The first and last time that are looked at."""
    first, last = (float(live.time[0]), float(live.time[-1])) if len(live.time) else (0.0, 0.0)
    low = first if start is None else start
    return low, max(last if end is None else end, low)


def alive_at(recording: Recording, time: float) -> Ints:
    """Tensors that are alive at a time, the largest first."""
    tensors = recording.tensors
    rows = np.flatnonzero((tensors.numbers("born") <= time) & (tensors.numbers("died") > time))
    return rows[np.argsort(-tensors.numbers("bytes")[rows], kind="stable")]


def _steps(recording: Recording, which: Any) -> Live:
    tensors = recording.tensors
    size = tensors.numbers("bytes")[which].astype(np.float64)
    born, died = tensors.numbers("born")[which], tensors.numbers("died")[which]
    ends = np.isfinite(died)
    time = np.concatenate([born, died[ends]])
    change = np.concatenate([size, -size[ends]])
    order = np.argsort(time, kind="stable")
    time, total = time[order], np.cumsum(change[order])
    last = np.append(time[1:] != time[:-1], True) if len(time) else np.zeros(0, bool)
    return Live(time[last], total[last])


def _of_kind(recording: Recording, kind: str, times: Floats) -> Floats:
    return at(_steps(recording, recording.tensors.texts("kind").equal(kind)), times)


def _picked(live: Live, low: float, high: float) -> Floats:
    """Times that show the course between two, with every stretch's extremes."""
    inside = live.time[(live.time > low) & (live.time < high)]
    if not len(live.time):
        return np.zeros(0)
    if len(inside) > MOST_TIMES - 2:
        inside = inside[_extremes(at(live, inside), MOST_TIMES // 2 - 1)]
    ends = [low, high] if high > low else [low]
    return np.unique(np.concatenate([ends, inside]))


def _extremes(values: Floats, stretches: int) -> Ints:
    """Where the most and the fewest are in each of some stretches of equal length."""
    bounds = np.linspace(0, len(values), stretches + 1).astype(np.int64)[:-1]
    number = np.zeros(len(values), np.int64)
    number[bounds[1:]] = 1
    number = np.cumsum(number)
    found = []
    for extreme in (np.maximum.reduceat(values, bounds), np.minimum.reduceat(values, bounds)):
        rows = np.flatnonzero(values == extreme[number])
        _, first = np.unique(number[rows], return_index=True)
        found.append(rows[first])
    return np.unique(np.concatenate(found))


def _peaks(recording: Recording, live: Live, low: float, high: float) -> list[float]:
    """Times of the most bytes in each step, and over all, of which the largest are returned."""
    steps = recording.steps
    spans = [(low, high)]
    spans += zip(steps.numbers("start").tolist(), steps.numbers("end").tolist(), strict=True)
    found: dict[float, float] = {}
    for begin, end in spans[:1000]:
        begin, end = max(begin, low), min(end, high)
        if begin > end:
            continue
        first, last = np.searchsorted(live.time, [begin, end], side="right").tolist()
        times = np.append(begin, live.time[first:last])
        values = at(live, times)
        place = int(np.argmax(values))
        found[float(times[place])] = float(values[place])
    best = sorted(found, key=lambda time: -found[time])[:_PEAKS]
    return sorted(time for time in best if found[time] > 0)


def _peak(recording: Recording, time: float) -> dict[str, Any]:
    rows = alive_at(recording, time)
    size = float(recording.tensors.numbers("bytes")[rows].sum())
    return {"time": time, "bytes": size, "tensors": rows[:_AT_PEAK].tolist()}


def _lives(recording: Recording, low: float, high: float) -> dict[str, Any]:
    tensors = recording.tensors
    there = (tensors.numbers("born") <= high) & (tensors.numbers("died") > low)
    rows = np.flatnonzero(there)
    size = tensors.numbers("bytes")[rows]
    if len(rows) > MOST_LIVES:
        rows = np.sort(rows[np.argsort(-size, kind="stable")[:MOST_LIVES]])
    table = tensors.take(rows)
    died, node = table.numbers("died"), table.numbers("node")
    texts = ("kind", "name", "op", "module", "source", "phase", "shape", "dtype")
    return {
        "id": rows,
        "born": table.numbers("born"),
        "died": np.where(np.isfinite(died), died, np.nan),
        "bytes": table.numbers("bytes"),
        **{column: list(table.texts(column)) for column in texts},
        "node": [number if number >= 0 else None for number in node.tolist()],
    }
