"""What each call takes typically: the median over the steps in which it comes again.

On a machine that does other things, too, some calls wait for a turn. A sum over a step has most
such waits in it; the same call of several steps rarely waits in more than half of them.
"""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.once import once
from ds_inspector.analysis.paths import distinct
from ds_inspector.analysis.timing import timing
from ds_inspector.forest import Floats, Ints
from ds_inspector.recording import Recording


def typical(recording: Recording, values: Floats) -> Floats:
    """Of each event the median of the values of the same calls in all steps.

    Args:
        recording: Whose events.
        values: One for each event.
    """
    groups = _calls(recording)
    if not len(groups):
        return values
    order = np.lexsort((values, groups))
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    medians = values[order[starts + (sizes - 1) // 2]]
    found: Floats = medians[groups]
    return found


@once
def _calls(recording: Recording) -> Ints:
    """A number for each event that the same calls in other steps share.

    They are the same if they are the n-th call of an operator on the same shapes in a module.
    """
    events, step = recording.events, timing(recording).step
    if not events.rows:
        return np.zeros(0, np.int64)
    columns = ("name", "module", "phase", "shapes", "dtype", "lane")
    _, kind = distinct(*(events.texts(column) for column in columns))
    order = np.lexsort((step, kind))  # stable: in a step by time
    run = np.append(
        True, (kind[order][1:] != kind[order][:-1]) | (step[order][1:] != step[order][:-1])
    )
    begins = np.flatnonzero(run)
    ordinal = np.empty(events.rows, np.int64)
    ordinal[order] = np.arange(events.rows) - begins[np.cumsum(run) - 1]
    _, groups = np.unique(kind * (int(ordinal.max()) + 1) + ordinal, return_inverse=True)
    return np.asarray(groups, np.int64)
