"""From one step's profile to events with module, phase and source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ds_inspector.capture.kineto import Raw, kinds
from ds_inspector.capture.marks import MODULE, STEP
from ds_inspector.capture.phases import phases
from ds_inspector.capture.texts import blank, starting, taken
from ds_inspector.forest import depths, levels, nearest
from ds_inspector.recording.table import Array, Texts


@dataclass
class StepEvents:
    """One step's events, in order of lane and start; columns as in `recording.schema`.

    Attributes:
        start: Seconds since the step began.
        seconds: How long the step took.
        forward: The forward operator that a backward one belongs to, or -1.
        launched: The operator that launched a kernel, or -1.
    """

    raw: Raw
    seconds: float
    start: Array
    duration: Array
    parent: Array
    kind: Texts
    name: Texts
    module: Texts
    phase: Texts
    forward: Array
    launched: Array
    source: Texts = field(default_factory=lambda: blank(0))

    @property
    def rows(self) -> int:
        """How many events."""
        return len(self.start)

    @property
    def operators(self) -> Array:
        """Which are calls of operators."""
        return self.kind.equal("operator")


def understood(raw: Raw, classes: dict[str, str]) -> StepEvents:
    """Find out what each event of a step belongs to.

    Args:
        raw: Of one step, with its mark.
        classes: Of modules by qualified name.
    """
    (step, *_) = np.flatnonzero(raw.name.equal(STEP))
    begin, seconds = float(raw.start[step]), float(raw.duration[step])
    start = np.clip(raw.start - begin, 0.0, None)
    parent = parents(raw.lane.codes, raw.start, raw.duration)
    kind = kinds(raw.activity, raw.name)
    is_module = starting(raw.name, MODULE)
    kind.codes[is_module] = kind.values.index("module")
    phase = phases(raw, parent, is_module)
    names = [text.removeprefix(MODULE) for text in raw.name.values]
    owner = nearest(parent, is_module)
    launched = _launched(raw)
    owner = np.where((owner < 0) & (launched >= 0), owner[launched], owner)
    module = taken(Texts(raw.name.codes, names), owner)
    forward = _forward(raw, parent)
    borrowed = (owner < 0) & (forward >= 0)
    module.codes[borrowed] = module.codes[forward[borrowed]]
    borrowed = (owner < 0) & (launched >= 0)
    module.codes[borrowed] = module.codes[launched[borrowed]]
    phase.codes[launched >= 0] = phase.codes[launched[launched >= 0]]
    name = Texts(raw.name.codes, [_title(text, classes) for text in raw.name.values])
    found = StepEvents(
        raw=raw,
        seconds=seconds * 1e-9,
        start=start * 1e-9,
        duration=_within(parent, start, np.minimum(start + raw.duration, seconds)) * 1e-9,
        parent=parent,
        kind=kind,
        name=name,
        module=module,
        phase=phase,
        forward=forward,
        launched=launched,
        source=blank(len(start)),
    )
    return _without(found, raw.name.equal(STEP))


def parents(lane: Array, start: Array, duration: Array) -> Array:
    """The innermost event of the same lane that each lies within, or -1.

    Args:
        lane: Numbers; rows are in order of lane, start and descending duration.
        start: As `duration`, in whole units.
        duration: As `start`.
    """
    found: list[int] = []
    open_: list[int] = []
    ends = (start + duration).tolist()
    before = -1
    for row, (at, begin) in enumerate(zip(lane.tolist(), start.tolist(), strict=True)):
        if at != before:
            open_, before = [], at
        while open_ and ends[open_[-1]] <= begin:
            open_.pop()
        found.append(open_[-1] if open_ else -1)
        open_.append(row)
    return np.array(found, np.int64)


def _within(parent: Array, start: Array, end: Array) -> Array:
    """Durations such that nothing outlasts what it lies within, as clocks make it by a little."""
    end = end.copy()
    for rank in levels(depths(parent))[1:]:
        end[rank] = np.minimum(end[rank], end[parent[rank]])
    result: Array = np.maximum(end - start, 0.0)
    return result


def _forward(raw: Raw, parent: Array) -> Array:
    """The forward operator of each backward one, by autograd's sequence number and thread.

    Several operators may have begun while a number was the next to be given: the last one got it.
    """
    made = (raw.sequence >= 0) & (raw.forward_thread == 0) & (raw.linked == 0)
    rows = np.flatnonzero(made)
    rows = rows[np.argsort(raw.start[rows], kind="stable")]
    nodes = np.flatnonzero((raw.sequence >= 0) & (raw.forward_thread > 0))
    keys = {
        (thread, number): row
        for thread, number, row in zip(
            raw.thread[rows].tolist(), raw.sequence[rows].tolist(), rows.tolist(), strict=True
        )
    }
    found = np.full(len(parent), -1, np.int64)
    threads, numbers = raw.forward_thread[nodes].tolist(), raw.sequence[nodes].tolist()
    found[nodes] = [keys.get(key, -1) for key in zip(threads, numbers, strict=True)]
    _follow_gradients(raw, found)
    holder = nearest(parent, found >= 0)
    return np.where(holder >= 0, found[holder], -1)


def _follow_gradients(raw: Raw, found: Array) -> None:
    """Count what accumulates a gradient to the node that was evaluated before it.

    It has no number, but autograd evaluates it at once when its gradient is there.
    """
    evaluated = np.flatnonzero(starting(raw.name, _EVALUATED))
    accumulates = raw.name.take(evaluated).equal(f"{_EVALUATED}: torch::autograd::AccumulateGrad")
    places = np.where(accumulates, -1, np.arange(len(evaluated)))
    before = np.maximum.accumulate(places) if len(places) else places
    known = accumulates & (before >= 0)
    known[known] &= raw.lane.codes[evaluated[known]] == raw.lane.codes[evaluated[before[known]]]
    found[evaluated[known]] = found[evaluated[before[known]]]


_EVALUATED = "autograd::engine::evaluate_function"


def _launched(raw: Raw) -> Array:
    """The operator that each kernel's launch was linked to, or -1."""
    found = np.full(len(raw.start), -1, np.int64)
    linked = np.flatnonzero(raw.linked > 0)
    if len(linked):
        operators = np.flatnonzero(raw.linked == 0)
        order = operators[np.argsort(raw.correlation[operators], kind="stable")]
        known = raw.correlation[order]
        at = np.minimum(np.searchsorted(known, raw.linked[linked]), len(known) - 1)
        found[linked] = np.where(known[at] == raw.linked[linked], order[at], -1)
    return found


def _title(text: str, classes: dict[str, str]) -> str:
    if not text.startswith(MODULE):
        return text
    return f"nn.Module: {classes.get(text.removeprefix(MODULE), 'Module')}"


def _without(events: StepEvents, unwanted: Array) -> StepEvents:
    """Leave out rows; their children go to their parents."""
    kept = nearest(events.parent, ~unwanted)
    number = np.append(np.cumsum(~unwanted) - 1, -1)  # the last is that of -1
    kept_above = np.where(events.parent >= 0, kept[events.parent], -1)
    rows = np.flatnonzero(~unwanted)

    def chosen(values: Any) -> Any:
        return values.take(rows) if isinstance(values, Texts) else values[rows]

    fields = {
        name: chosen(getattr(events, name))
        for name in ("start", "duration", "kind", "name", "module", "phase", "source")
    }
    raw = Raw(**{name: chosen(value) for name, value in vars(events.raw).items()})
    return StepEvents(
        raw=raw,
        seconds=events.seconds,
        parent=number[kept_above[rows]],
        forward=number[events.forward[rows]],
        launched=number[events.launched[rows]],
        **fields,
    )
