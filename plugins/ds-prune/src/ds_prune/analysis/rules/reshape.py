"""The same entries in row-major order, in another shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.labels import Labels
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import NOWHERE, Value

MIXED = "it is reshaped in a way that cannot be followed"


@rule("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "ravel")
def reshape(flow: Flow, call: Call) -> Value:
    """The same entries in row-major order."""
    return reshaped(flow, call.value("self"), call.shape)


def reshaped(flow: Flow, value: Value, shape: Sequence[int]) -> Value:
    """`value` in another shape.

    Both shapes are refined to a common one: the dimensions of the old are split into its axes, and
    these merged to the dimensions of the new. Where there is none, as from [4, 6] to [8, 3], the
    labels involved are frozen.
    """
    if tuple(shape) == value.shape:
        return value
    if min(*value.shape, *shape, 1) < 1:
        flow.freeze_all([value], MIXED)
        return Value(tuple(shape), (None,) * len(shape), statistics=value.statistics)
    labels: list[Labels | None] = [None] * len(shape)
    origins = [NOWHERE] * len(shape)
    uniform = [True] * len(shape)
    for old, new in _runs(value.shape, shape):
        axes = _refined([value.shape[dim] for dim in old], [shape[dim] for dim in new])
        if axes is None:
            flow.freeze(value, old, MIXED)
            for dim in new:
                uniform[dim] = False
            continue
        parts: list[Labels | None] = []
        flags: list[bool] = []
        for dim, factors in zip(old, axes[0], strict=True):
            whole = len(factors) == 1
            found = value.labels[dim]
            parts += (found,) if whole else flow.split(found, factors)
            flags += [value.uniform[dim]] * len(factors)
        start = 0
        for dim, factors in zip(new, axes[1], strict=True):
            end = start + len(factors)
            if len(factors) == 1:
                labels[dim] = parts[start]
            else:
                labels[dim] = flow.merge(parts[start:end], factors)
            uniform[dim] = all(flags[start:end])
            start = end
        if len(old) == len(new) == 1:
            origins[new[0]] = value.origins[old[0]]
        elif len(new) >= 1:
            # A parameter stays one, as far as its dimensions can still be told apart.
            together = NOWHERE.union(*(value.origins[dim] for dim in old))
            for dim in new:
                origins[dim] = together
    return Value(
        tuple(shape), tuple(labels), tuple(origins), tuple(uniform), value.statistics, value.source
    )


def _runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of dimensions of both shapes that are of equal product."""
    old = [dim for dim, size in enumerate(before) if size != 1]
    new = [dim for dim, size in enumerate(after) if size != 1]
    while old or new:
        left, right = [old.pop(0)], [new.pop(0)]
        one, other = before[left[0]], after[right[0]]
        while one != other:
            if one < other:
                left.append(old.pop(0))
                one *= before[left[-1]]
            else:
                right.append(new.pop(0))
                other *= after[right[-1]]
        yield left, right


def _refined(
    before: Sequence[int], after: Sequence[int]
) -> tuple[list[list[int]], list[list[int]]] | None:
    """For each dimension of both its factors, such that both have the same row of factors."""
    ends = [np.cumprod(sizes).tolist() for sizes in (before, after)]
    cuts = sorted({1, *ends[0], *ends[1]})
    if any(high % low for low, high in itertools.pairwise(cuts)):
        return None
    factors = [high // low for low, high in itertools.pairwise(cuts)]
    found: tuple[list[list[int]], list[list[int]]] = ([], [])
    for side, marks in zip(found, ends, strict=True):
        start = 0
        for mark in marks:
            end = cuts.index(mark)
            side.append(factors[start:end])
            start = end
    return found
