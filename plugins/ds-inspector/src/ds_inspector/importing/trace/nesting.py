"""Which event lies in which, for millions of them."""

from __future__ import annotations

import numpy as np

from ds_inspector.forest import Ints

_ROUNDS = 100


def order_of(lane: Ints, start: Ints, duration: Ints) -> Ints:
    """Rows by lane and start, longer ones first, so that parents come before children."""
    order: Ints = np.lexsort((start, lane))  # fast, as they are written nearly in this order
    same = (np.diff(lane[order]) == 0) & (np.diff(start[order]) == 0)
    tied = np.zeros(len(order), bool)
    tied[1:] |= same
    tied[:-1] |= same
    rows = order[tied]
    order[tied] = rows[np.lexsort((-duration[rows], start[rows], lane[rows]))]
    return order


def parents(lane: Ints, start: Ints, end: Ints) -> Ints:
    """The innermost event of the same lane that contains each event; -1 for none.

    Args:
        lane: Of events in the order that `order_of` gives.
        start: As integers, since rounding must not let a child outlast its parent.
        end: Likewise.

    As starts ascend, an event contains a later one if it ends no earlier: what is looked for is the
    nearest earlier row with an end at least as large. Rows that were passed over are passed over
    by those that follow, too, so that each round doubles the reach.
    """
    count = len(lane)
    found = np.arange(-1, count - 1, dtype=np.int64)
    if not count:
        return found
    found[np.flatnonzero(np.append(True, lane[1:] != lane[:-1]))] = -1
    open_ = np.flatnonzero(found >= 0)
    for _ in range(_ROUNDS):
        open_ = open_[end[found[open_]] < end[open_]]
        if not len(open_):
            return found
        found[open_] = found[found[open_]]
        open_ = open_[found[open_] >= 0]
    return _one_by_one(lane, end)


def _one_by_one(lane: Ints, end: Ints) -> Ints:
    """The same with a stack: slower, but linear for whatever was made to need many rounds."""
    found, rows, ends, last = [], [0], [0], None
    for row, (here, until) in enumerate(zip(lane.tolist(), end.tolist(), strict=True)):
        if here != last:
            rows, ends, last = [], [], here
        while ends and ends[-1] < until:
            rows.pop()
            ends.pop()
        found.append(rows[-1] if rows else -1)
        rows.append(row)
        ends.append(until)
    return np.array(found, np.int64)
