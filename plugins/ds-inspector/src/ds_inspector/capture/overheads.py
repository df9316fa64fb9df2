"""What recording cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ds_inspector.capture.graph import Graph
from ds_inspector.capture.schedule import LIFETIMES, PLAIN, SOURCES, TIME
from ds_inspector.recording.recording import Collector

_NOTES = {
    SOURCES: "one step in which the lines of code were looked for; it is not among the steps",
    TIME: "torch.profiler and ranges around modules",
    LIFETIMES: "steps of their own, put on the clock of the timed ones operator by operator",
}


def overheads(seconds: Mapping[str, Sequence[float]], graph: Graph) -> list[Collector]:
    """Of each collector, the median of its steps over that of the plain ones in between.

    Args:
        seconds: Of steps by role.
        graph: Costs nothing while steps run.
    """
    plain = np.array(seconds.get(PLAIN, ()))
    found = []
    for role, note in _NOTES.items():
        own = np.array(seconds.get(role, ()))
        if not len(own):
            continue
        ratio = float(np.median(own) / np.median(plain)) if len(plain) else None
        if len(plain) > 1 and len(own) > 1:
            count = min(len(plain), len(own))
            pairs = own[:count] / plain[:count]
            note += f"; {pairs.min():.2f} to {pairs.max():.2f} in {count} pairs of steps"
        found.append(Collector(name=role, overhead=ratio, note=note))
    if graph.nodes.rows or graph.problems:
        found.append(Collector(name="graph", overhead=None, note="made apart from the steps"))
    return found
