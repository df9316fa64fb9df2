"""How far two samples are apart (Hodges and Lehmann, 1963), with confidence by Mann-Whitney."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ds_inspector.forest import Floats

_ERROR = 0.05
"""Of an interval, on both sides together."""
_EXACT = 40
"""Values in both samples up to which the distribution is counted out."""
_MOST = 400
"""Values of a sample that are compared; of more, evenly spread ones in order of time."""


@dataclass(frozen=True)
class Interval:
    """A value, and where it lies with 95% confidence; None where there are too few values."""

    middle: float
    low: float | None
    high: float | None


def shift(before: Floats, after: Floats) -> Interval:
    """By how much `after` is more: the median of all differences between the two.

    Nothing is assumed of how values are distributed, but that steps do not depend on each other.
    Three values on each side are too few for 95%.
    """
    before, after = _thinned(before), _thinned(after)
    apart = np.sort((after[:, None] - before[None, :]).ravel())
    if not len(apart):
        return Interval(0.0, None, None)
    middle = float(np.median(apart))
    rank = _rank(len(before), len(after))
    if rank < 0:
        return Interval(middle, None, None)
    return Interval(middle, float(apart[rank]), float(apart[-1 - rank]))


def ratio_of(before: Floats, after: Floats) -> Interval:
    """How many times as much `after` is, in the same way."""
    before, after = before[before > 0], after[after > 0]
    if not len(before) or not len(after):
        return Interval(math.nan, None, None)
    found = shift(np.log(before), np.log(after))
    low = None if found.low is None else math.exp(found.low)
    high = None if found.high is None else math.exp(found.high)
    return Interval(math.exp(found.middle), low, high)


def _thinned(values: Floats) -> Floats:
    if len(values) <= _MOST:
        return values
    return values[np.linspace(0, len(values) - 1, _MOST).astype(np.int64)]


@functools.cache
def _rank(first: int, second: int) -> int:
    """How many differences may be left out on each side; -1 where not even none is enough."""
    if first + second > _EXACT:
        mean = first * second / 2
        deviation = math.sqrt(first * second * (first + second + 1) / 12)
        return max(math.floor(mean - 1.96 * deviation - 0.5), 0)
    counts = _statistic(first, second)
    tail = np.cumsum(counts) / counts.sum()  # of U <= u
    return int(np.searchsorted(tail, _ERROR / 2, side="right")) - 1


def _statistic(first: int, second: int) -> Floats:
    """In how many orders of two samples each value of Mann and Whitney's U occurs."""
    counts = np.zeros(first * second + 1)
    counts[0] = 1.0
    # The generating function is a Gaussian binomial coefficient.
    for k in range(1, first + 1):
        up = np.zeros_like(counts)
        up[:] = counts
        if second + k <= first * second:
            up[second + k :] -= counts[: len(counts) - second - k]
        for at in range(k, len(up)):
            up[at] += up[at - k]
        counts = up
    return np.round(counts)
