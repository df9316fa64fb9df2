"""What all advice looks at: operators in their order, and what a step takes.

Seconds are what each call takes typically (`typical`), and a step's are their sum: a moment in
which other programs ran does not make a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ds_inspector.analysis.once import once
from ds_inspector.analysis.operators import is_operator, own_seconds
from ds_inspector.analysis.roofline import peaks_of
from ds_inspector.analysis.shapes import parsed
from ds_inspector.analysis.timing import Mask, timing
from ds_inspector.analysis.typical import typical
from ds_inspector.forest import Floats, Ints, nearest, sum_by, summed
from ds_inspector.recording import Recording

_IDLE = {
    *("empty", "empty_strided", "empty_like", "empty_permuted", "resize_", "as_strided", "view"),
    *(
        "_unsafe_view",
        "transpose",
        "t",
        "permute",
        "expand",
        "select",
        "slice",
        "squeeze",
        "detach",
    ),
    *(
        "unsqueeze",
        "unbind",
        "split",
        "chunk",
        "resolve_conj",
        "resolve_neg",
        "result_type",
        "alias",
    ),
    *("lift_fresh", "detach_", "as_strided_", "to", "set_", "_reshape_alias", "reshape", "flatten"),
}
"""Operators that only allocate, or look at the same values in another way."""


@dataclass(frozen=True)
class Facts:
    """Of one recording; arrays are of one value for each event."""

    recording: Recording
    lengths: Floats
    """Seconds of each step: of what was called in it, and of gaps."""
    gap: float
    """Seconds of a step in which nothing ran."""
    own: Floats
    """Seconds of each event itself."""
    total: Floats
    """With what is nested in it."""
    host: Floats
    """Seconds of each event itself on the host."""
    operator: Mask
    leaf: Mask
    """Operators that compute something and call no other that does."""
    has_backward: bool
    peaks: dict[str, float]

    def named(self, *names: str) -> Mask:
        """Events of these operators, without `aten::`."""
        texts = self.recording.events.texts("name")
        wanted = set(names)
        hits = [name.removeprefix("aten::") in wanted for name in texts.values] or [False]
        found: Mask = np.array(hits)[texts.codes] & self.operator
        return found

    def is_(self, column: str, *values: str) -> Mask:
        """Events with one of these texts in a column."""
        texts = self.recording.events.texts(column)
        found: Mask = np.array([text in values for text in texts.values] or [False])[texts.codes]
        return found

    def ranks(self) -> Ints:
        """Dimensions of each event's first input."""
        texts = self.recording.events.texts("shapes")
        found: Ints = np.array([len(parsed(text)[0]) for text in texts.values] or [0])[texts.codes]
        return found

    def inside(self, rows: Mask) -> Mask:
        """These events and whatever is nested in them."""
        found: Mask = nearest(self.recording.events.numbers("parent"), rows) >= 0
        return found

    def inside_parent(self, rows: Mask) -> Mask:
        """Whatever is nested in these events, without themselves."""
        parent = self.recording.events.numbers("parent")
        found: Mask = np.append(self.inside(rows), False)[parent]
        return found

    @property
    def step_seconds(self) -> float:
        """Of a step."""
        return float(np.median(self.lengths)) if len(self.lengths) else 0.0

    def by_step(self, rows: Mask, values: Floats | None = None) -> Floats:
        """The sum over these events in each step, of their own seconds unless values are given."""
        values = self.own if values is None else values
        step = timing(self.recording).step
        rows = rows & (step >= 0)
        return sum_by(step[rows], values[rows], len(self.lengths))

    def seconds(self, rows: Mask, values: Floats | None = None) -> float:
        """Of a step, of these events themselves unless values are given."""
        sums = self.by_step(rows, values)
        return float(np.median(sums)) if len(sums) else 0.0

    def share(self, rows: Mask, values: Floats | None = None) -> float:
        """Of a step, of these events themselves unless values are given."""
        sums, there = self.by_step(rows, values), self.lengths > 0
        return float(np.median(sums[there] / self.lengths[there])) if there.any() else 0.0

    def calls(self, rows: Mask) -> float:
        """In a step."""
        return float(rows.sum()) / max(len(self.lengths), 1)

    def place(self, rows: Mask) -> dict[str, Any]:
        """Where most of the time of these events is: operator, and its module and source line."""
        events = self.recording.events
        found: dict[str, Any] = {}
        for key, column in (("op", "name"), ("module", "module"), ("source", "source")):
            texts = events.texts(column)
            sums = sum_by(texts.codes[rows], self.own[rows], len(texts.values))
            best = int(np.argmax(sums)) if sums.size and sums.max() > 0 else -1
            found[key] = texts.values[best] if best >= 0 else ""
            if key != "op" and best >= 0:
                rows = rows & (texts.codes == best)
        nodes = events.numbers("node")[rows]
        found["node"] = int(nodes[0]) if len(nodes) and (nodes == nodes[0]).all() else None
        if found["node"] == -1:
            found["node"] = None
        return found

    def runs(self, wanted: Mask) -> list[Ints]:
        """Leaf operators that directly follow each other in one module and step, all wanted."""
        events = self.recording.events
        rows = np.flatnonzero(self.leaf)
        keys = [events.texts(name).codes[rows] for name in ("lane", "module", "phase")]
        keys.append(events.numbers("step")[rows])
        change = np.append(True, np.any([key[1:] != key[:-1] for key in keys], axis=0))
        good = wanted[rows]
        change |= np.append(True, good[1:] != good[:-1]) if len(rows) else False
        groups = np.split(rows, np.flatnonzero(change)[1:]) if len(rows) else []
        return [group for group in groups if wanted[group[0]]]


@once
def facts(recording: Recording) -> Facts:
    """Gather them."""
    time, events = timing(recording), recording.events
    operator = is_operator(recording)
    names, shapes = events.texts("name"), events.texts("shapes")
    idle = np.array([name.removeprefix("aten::") in _IDLE for name in names.values] or [False])
    scalar = np.array([text.partition(",")[0] == "scalar" for text in shapes.values] or [False])
    computing = operator & ~idle[names.codes] & ~scalar[shapes.codes]
    calls = np.zeros(events.rows, bool)
    parent = np.append(nearest(events.numbers("parent"), operator), -1)[events.numbers("parent")]
    parent = parent[computing]
    calls[parent[parent >= 0]] = True
    own = typical(recording, own_seconds(recording))
    gap = float(np.median(time.gaps)) if len(time.gaps) else 0.0
    inside = time.step >= 0
    return Facts(
        recording=recording,
        lengths=sum_by(time.step[inside], own[inside], len(time.spans)) + gap,
        gap=gap,
        own=own,
        total=summed(events.numbers("parent"), own, time.ranks),
        host=typical(recording, time.host),
        operator=operator,
        leaf=computing & ~calls,
        has_backward=bool(events.texts("phase").equal("backward").any()),
        peaks=peaks_of(recording),
    )


def percent(share: float) -> str:
    """As people write it."""
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def spent(seconds: float) -> str:
    """A time for people."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
