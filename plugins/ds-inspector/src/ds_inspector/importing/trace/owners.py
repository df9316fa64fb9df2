"""Which module, source line, phase and step an event of a trace belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ds_inspector.forest import Ints, nearest
from ds_inspector.importing.limits import cut
from ds_inspector.importing.naming import is_foreign
from ds_inspector.importing.trace.kinds import ANNOTATION, MODULE, OPERATOR, PYTHON, starts
from ds_inspector.recording.table import Texts

_FRAME = re.compile(r"^(.+)\((\d+)\): ")
_LEVELS = 64
_STEP = "ProfilerStep#"
_OPTIMIZER = "Optimizer.step#"
_PHASES = ["other", "forward", "backward", "optimizer", "data"]
_BY_NAME = {
    ("autograd::", "torch::autograd::"): 2,
    ("Optimizer.",): 3,
    ("enumerate(DataLoader)#",): 4,
}


@dataclass
class Events:
    """Columns in the order of the recording."""

    start: Ints
    end: Ints
    parent: Ints
    cause: Ints
    kind: Ints
    name: Texts
    sequence: Ints


def phases(events: Events) -> Texts:
    """What the innermost event says that tells; operators and modules elsewhere are forward."""
    told = np.zeros(len(events.parent), np.int64)
    for prefixes, phase in _BY_NAME.items():
        told[starts(events.name, prefixes)] = phase
    found = _inherited(events.parent, told)
    computes = nearest(events.parent, (events.kind == OPERATOR) | (events.kind == MODULE)) >= 0
    found = np.where((found == 0) & computes, 1, found)
    return Texts(_caused(events, found, found == 0), _PHASES)


def modules(events: Events, phase: Texts) -> Texts:
    """Modules by the frames around an event, as `Net_0.Linear_3`; a backward's by its forward."""
    own, paths = _module_paths(events)
    return Texts(_both_ways(events, own, phase), paths)


def sources(events: Events, phase: Texts) -> Texts:
    """The innermost line of the user's around an event; a backward's is its forward's."""
    lines = [""]
    numbers = []
    for name in events.name.values:
        match = _FRAME.match(name)
        if match and not is_foreign(match[1]):
            numbers.append(len(lines))
            lines.append(f"{match[1]}:{match[2]}")
        else:
            numbers.append(0)
    by_name = np.array(numbers or [0], np.int64)[events.name.codes]
    own = np.where((events.kind == PYTHON) | (events.kind == MODULE), by_name, 0)
    return Texts(_both_ways(events, own, phase), lines)


def steps(events: Events) -> tuple[Ints, Ints]:
    """Starts and ends of steps."""
    marked = np.flatnonzero(starts(events.name, _STEP) & (events.kind == ANNOTATION))
    if len(marked):
        begin, end = events.start[marked], events.end[marked]
    else:  # a step lasts until the optimizer is done
        marked = np.flatnonzero(starts(events.name, _OPTIMIZER))
        end = np.unique(events.end[marked])
        begin = np.append(0, end[:-1])[: len(end)]
    order = np.argsort(begin, kind="stable")
    return begin[order], end[order]


def step_of(events: Events, begin: Ints, end: Ints) -> Ints:
    """The step that each event begins in; -1 outside of any."""
    found: Ints = np.searchsorted(begin, events.start, "right") - 1
    if len(begin):
        found = np.where(events.start < end[found], found, -1)
    return _caused(events, found + 1, events.cause >= 0) - 1


def _both_ways(events: Events, own: Ints, phase: Texts) -> Ints:
    """What is told by events around, in backward by the forward operator of the same sequence."""
    forward = _inherited(events.parent, own)
    backward = phase.equal("backward")
    known = ~backward & (events.sequence >= 0) & (forward > 0) & (events.kind == OPERATOR)
    frames = backward & (events.sequence >= 0)
    row = match(events.sequence[frames], events.sequence, np.flatnonzero(known))
    own = np.where(backward, 0, own)
    own[frames] = np.where(row >= 0, forward[row], 0)
    found = np.where(backward, _inherited(np.where(backward, events.parent, -1), own), forward)
    return _caused(events, found, found == 0)


def match(wanted: Ints, keys: Ints, rows: Ints) -> Ints:
    """The last of `rows` whose key is the one wanted; -1 where none is."""
    if not len(rows) or not len(wanted):
        return np.full(len(wanted), -1)
    order = rows[np.argsort(keys[rows], kind="stable")]
    place = np.searchsorted(keys[order], wanted, "right") - 1
    found = order[place]
    return np.where((place >= 0) & (keys[found] == wanted), found, -1)


def _inherited(parent: Ints, own: Ints) -> Ints:
    row = nearest(parent, own > 0)
    return np.where(row >= 0, own[row], 0) if len(own) else own


def _caused(events: Events, values: Ints, where: NDArray[np.bool_]) -> Ints:
    """A kernel has what its cause has."""
    at = np.flatnonzero(where & (events.cause >= 0))
    found = values.copy()
    found[at] = values[events.cause[at]]
    return found


def _module_paths(events: Events) -> tuple[Ints, list[str]]:
    """The number of the path for each module frame, 0 for other events; and the paths."""
    rows = np.flatnonzero(events.kind == MODULE)
    own, paths = np.zeros(len(events.kind), np.int64), [""]
    around = np.append(nearest(events.parent, events.kind == MODULE), -1)[events.parent[rows]]
    names = [name.removeprefix("nn.Module: ") for name in events.name.values]
    for level in range(_LEVELS):
        # Frames are taken level by level: those around have their path already.
        now = around < 0 if level == 0 else (around >= 0) & (own[around] > 0) & (own[rows] == 0)
        if not now.any():
            break
        within = np.where(around[now] >= 0, own[around[now]], 0)
        pair = within * len(names) + events.name.codes[rows[now]]
        distinct, inverse = np.unique(pair, return_inverse=True)
        own[rows[now]] = len(paths) + inverse
        for each in distinct.tolist():
            outer, name = paths[each // len(names)], names[each % len(names)]
            paths.append(cut(f"{outer}.{name}" if outer else name))
    return own, paths
