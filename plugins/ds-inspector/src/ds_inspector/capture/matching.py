"""Finding the same call in the graph, in a profile and in what was dispatched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ds_inspector.capture.dispatch import MODULE, Call
from ds_inspector.capture.events import StepEvents
from ds_inspector.capture.sequence import matched, shared_codes
from ds_inspector.capture.texts import among, taken
from ds_inspector.forest import depths, levels, nearest
from ds_inspector.recording import Table
from ds_inspector.recording.table import Array, Texts


def outermost(events: StepEvents, names: set[str]) -> Array:
    """Rows of operators that have one of the names and lie within no other such, in order of time.

    An account that has calls of these operators knows nothing of what they call in turn.
    """
    wanted = among(events.name, names) & events.operators
    within = np.full(events.rows, -1, np.int64)
    inside = events.parent >= 0
    within[inside] = nearest(events.parent, wanted)[events.parent[inside]]
    rows = np.flatnonzero(wanted & (within < 0))
    return rows[np.argsort(events.start[rows], kind="stable")]


def nodes_of(events: StepEvents, nodes: Table) -> Array:
    """The graph's node that each event belongs to, or -1.

    An operator of a forward is a node if it has the node's name and module, and the module called
    operators of this name as often as the graph has them, or a multiple where it ran repeatedly.
    What it calls belongs to the same node, and so do its backward and its kernels.
    """
    found = np.full(events.rows, -1, np.int64)
    if not nodes.rows:
        return found
    names = set(nodes.texts("op").values)
    rows = outermost(events, names)
    modules = nearest(events.parent, events.kind.equal("module"))
    rows = rows[events.phase.take(rows).equal("forward") & (modules[rows] >= 0)]
    first, second = zip(
        shared_codes(events.name.take(rows), nodes.texts("op")),
        shared_codes(events.module.take(rows), nodes.texts("module")),
        strict=True,
    )
    found[rows] = matched(first, second, cyclic=True)
    holder = nearest(events.parent, found >= 0)
    found = np.where(holder >= 0, found[holder], -1)
    for origin in (events.forward, events.launched):
        found = np.where((found < 0) & (origin >= 0), found[origin], found)
    return found


def calls_in(events: StepEvents, calls: Sequence[Call]) -> Array:
    """The event of a timed step that each call of a step corresponds to, or -1.

    Args:
        events: Of the timed step.
        calls: What was dispatched in a step, in order of time.
    """
    name = Texts.of([call.name for call in calls])
    module = Texts.of([call.module for call in calls])
    phase = Texts.of([call.phase for call in calls])
    found = np.full(len(calls), -1, np.int64)
    forwards = name.equal(MODULE)
    modules = np.flatnonzero(events.kind.equal("module"))
    modules = modules[np.argsort(events.start[modules], kind="stable")]
    operators = outermost(events, set(name.values))
    for rows, mine in ((modules, forwards), (operators, ~forwards)):
        if not len(rows) or not mine.any():
            continue
        pairs = [
            shared_codes(module.take(mine), events.module.take(rows)),
            shared_codes(phase.take(mine), events.phase.take(rows)),
        ]
        if rows is operators:
            pairs.append(shared_codes(name.take(mine), events.name.take(rows)))
        first, second = zip(*pairs, strict=True)
        place = matched(first, second)
        found[mine] = np.where(place >= 0, rows[place], -1)
    return found


def sources_of(events: StepEvents, calls: Sequence[Call]) -> Texts:
    """The sources of a timed step, out of the calls of one in which lines were looked for.

    An operator that was not dispatched itself has the line of the first that it called, else of
    what called it; a backward operator has its forward's.
    """
    rows = calls_in(events, calls)
    call = np.full(events.rows, -1, np.int64)
    call[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    upward = events.operators | events.kind.equal("annotation")
    ranks = levels(depths(events.parent))
    for rank in reversed(ranks[1:]):
        known = rank[call[rank] >= 0][::-1]  # the first child is written last
        above = events.parent[known]
        free = upward[above] & (call[above] < 0)
        call[above[free]] = call[known[free]]
    holder = nearest(events.parent, call >= 0)
    call = np.where(holder >= 0, call[holder], -1)
    call = np.where(events.launched >= 0, call[events.launched], call)
    call = np.where(events.forward >= 0, call[events.forward], call)
    return taken(Texts.of([each.source for each in calls]), call)
