"""Whose time is whose: self seconds of events, and time that no event accounts for.

Where a recording has kernels, time is theirs: what the host spent to launch them is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ds_inspector.analysis.once import once
from ds_inspector.forest import Floats, Ints, depths, levels, nearest, sum_by, summed
from ds_inspector.recording import Recording, Texts

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Timing:
    """Arrays of one value for each event, unless said otherwise."""

    ranks: list[Ints]
    """Rows of each depth."""
    operator: Ints
    """The innermost operator that a row is or lies in; of a kernel, that of its cause; else -1."""
    owner: Ints
    """The row that says whose time it is: itself, or what launched it."""
    own: Floats
    """Seconds of itself on the lanes that count, without what is nested in it."""
    total: Floats
    """With what is nested in it and the kernels that they launched."""
    host: Floats
    """Seconds of itself on the host, also where kernels count."""
    step: Ints
    """That it belongs to, or -1."""
    spans: Floats
    """Start and end of each step, (n, 2); of the whole where there are none."""
    gaps: Floats
    """Seconds of each step in which no event that counts was running."""
    on_device: bool
    """Whether kernels count, rather than what the host did."""

    @property
    def seconds(self) -> float:
        """All that is accounted for, gaps included."""
        return float(self.own.sum() + self.gaps.sum())


@once
def timing(recording: Recording) -> Timing:
    """Work it out."""
    events = recording.events
    start, duration = events.numbers("start"), np.nan_to_num(events.numbers("duration"))
    parent, cause = events.numbers("parent"), events.numbers("cause")
    kinds = events.texts("kind")
    is_kernel, is_operator = kinds.equal("kernel"), kinds.equal("operator")
    ranks = levels(depths(parent))
    nested = sum_by(parent[parent >= 0], duration[parent >= 0], events.rows).astype(np.float64)
    # A child may end after its parent by a rounding of clocks.
    alone = np.maximum(duration - nested, 0.0)
    launched = is_kernel & (cause >= 0) & ~np.append(is_kernel, True)[cause]
    owner = np.where(launched, cause, np.arange(events.rows))
    operator = nearest(parent, is_operator)[owner] if events.rows else owner
    on_device = bool(is_kernel.any())
    own = np.where(is_kernel, alone, 0.0) if on_device else alone
    host = np.where(is_kernel, 0.0, alone)
    caused = own
    if on_device:
        caused = sum_by(owner, own, events.rows)
    total = summed(parent, caused, ranks)
    if on_device:
        total = np.where(is_kernel, duration, total)
    spans = _spans(recording)
    counted = is_kernel if on_device else ~is_kernel
    return Timing(
        ranks=ranks,
        operator=operator,
        owner=owner,
        own=own,
        total=total,
        host=host,
        step=_steps(recording, owner),
        spans=spans,
        gaps=_gaps(spans, start, duration, counted & (parent < 0)),
        on_device=on_device,
    )


def of_owner(texts: Texts, owner: Ints) -> Texts:
    """A column in which a kernel says what its cause says, where it says nothing itself."""
    empty = texts.values.index("") if "" in texts.values else -1
    unnamed = texts.codes == empty
    return Texts(np.where(unnamed, texts.codes[owner], texts.codes), texts.values)


def _spans(recording: Recording) -> Floats:
    steps, events = recording.steps, recording.events
    if steps.rows:
        return np.stack([steps.numbers("start"), steps.numbers("end")], 1)
    if not events.rows:
        return np.zeros((0, 2))
    start = events.numbers("start")
    end = start + np.nan_to_num(events.numbers("duration"))
    return np.array([[float(start.min()), float(end.max())]])


def _steps(recording: Recording, owner: Ints) -> Ints:
    step = recording.events.numbers("step").astype(np.int64)
    step = np.where(step < 0, step[owner], step) if len(step) else step
    return step if recording.steps.rows else np.zeros_like(step)


def _gaps(spans: Floats, start: Floats, duration: Floats, counted: Mask) -> Floats:
    """Seconds of each span in which nothing of what is counted was running."""
    begin = start[counted]
    order = np.argsort(begin, kind="stable")
    begin = begin[order]
    end = np.maximum.accumulate((start + duration)[counted][order]) if len(begin) else begin
    # What each adds to what was covered before it: lanes overlap.
    fresh = end - np.maximum(begin, np.append(-np.inf, end[:-1])) if len(begin) else begin
    covered = np.append(0.0, np.cumsum(np.maximum(fresh, 0.0)))

    def until(times: Floats) -> Floats:
        number = np.searchsorted(begin, times, side="right")
        beyond = np.append(-np.inf, end)[number] - times
        return covered[number] - np.maximum(beyond, 0.0)

    gaps: Floats = (spans[:, 1] - spans[:, 0]) - (until(spans[:, 1]) - until(spans[:, 0]))
    return np.maximum(gaps, 0.0)
