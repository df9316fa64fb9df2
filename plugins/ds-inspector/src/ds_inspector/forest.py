"""Trees of events as arrays of parents, without a loop over events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def depths(parent: NDArray[Any]) -> Ints:
    """How many ancestors each row has.

    Args:
        parent: Rows that come before, or -1.
    """
    rows = len(parent)
    jump = np.append(parent, -1).astype(np.int64)  # the last row is that above all roots
    jump[jump < 0] = rows
    depth = np.append((parent >= 0).astype(np.int64), 0)
    while (jump < rows).any():  # twice as far each time
        depth += depth[jump]
        jump = jump[jump]
    return depth[:rows]


def levels(depth: Ints) -> list[Ints]:
    """Rows of each depth, from the roots on."""
    order = np.argsort(depth, kind="stable")
    bounds = np.cumsum(np.bincount(depth)) if len(depth) else np.zeros(0, np.int64)
    return np.split(order, bounds[:-1]) if len(bounds) else []


def summed(parent: NDArray[Any], values: Floats, ranks: list[Ints]) -> Floats:
    """Of each row, the values of itself and of all below it.

    Args:
        parent: Rows that come before, or -1.
        values: One a row.
        ranks: `levels` of the depths.
    """
    total = values.astype(np.float64)
    for rank in reversed(ranks[1:]):
        np.add.at(total, parent[rank], total[rank])
    return total


def sum_by(groups: NDArray[Any], values: NDArray[Any], count: int) -> Floats:
    """The sum of the values of each group.

    Args:
        groups: Number of each value's group, below `count`.
        values: As many.
        count: How many groups there are.
    """
    return np.asarray(np.bincount(groups, weights=values, minlength=count), np.float64)


def nearest(parent: NDArray[Any], wanted: NDArray[np.bool_]) -> Ints:
    """Of each row, itself if it is wanted, else the next wanted one above; -1 where there is none.

    Args:
        parent: Rows that come before, or -1.
        wanted: One a row.
    """
    found = np.where(wanted, np.arange(len(parent)), parent).astype(np.int64)
    open_ = np.flatnonzero((found >= 0) & ~wanted[found])
    while len(open_):
        # Of those that have been looked for, further than one step.
        found[open_] = found[found[open_]]
        open_ = open_[(found[open_] >= 0) & ~wanted[found[open_]]]
    return found
