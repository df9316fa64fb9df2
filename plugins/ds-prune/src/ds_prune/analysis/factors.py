"""Dimensions that were split into several or merged from several.

A dimension of H * D channels that is viewed as [H, D] stays a rectangle only if whole heads go, or
the same positions of all heads. Which of the two is left open until the whole graph has been seen:
each axis has labels of its own until then, and a `Factor` says that they belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ds_prune.analysis.labels import Classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds_prune.analysis.labels import Labels

CHOSEN = "chosen"
"""The mark of an axis along which a rectangle is cut."""

NOT_ALONG = "only whole blocks of it can go, and this is a position within blocks"


@dataclass(frozen=True)
class Factor:
    """A flat dimension and the axes that it is the row-major product of.

    Attributes:
        flat: `[product of sizes]`
        axes: For each axis its labels, or None for an axis from which nothing can go.
        sizes: Of the axes.
    """

    flat: Labels
    axes: tuple[Labels | None, ...]
    sizes: tuple[int, ...]

    def along(self, axis: int, labels: Labels) -> Labels:
        """`labels` of an axis, repeated for each index of the flat dimension."""
        shape = [1] * len(self.sizes)
        shape[axis] = -1
        return np.broadcast_to(labels.reshape(shape), self.sizes).reshape(-1)


class Factors:
    """All splits and merges of a graph, and how they are resolved."""

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._factors: list[Factor] = []
        self._by_flat: dict[tuple[int, tuple[int, ...]], Factor] = {}

    def split(self, flat: Labels, sizes: Sequence[int]) -> tuple[Labels | None, ...]:
        """Labels of the axes into which a dimension is viewed. An axis of size 1 has none."""
        key = (id(flat), tuple(sizes))
        if key not in self._by_flat:
            axes = tuple(self._classes.new(size) if size > 1 else None for size in sizes)
            self._add(Factor(flat, axes, tuple(sizes)))
        return self._by_flat[key].axes

    def merge(self, axes: Sequence[Labels | None], sizes: Sequence[int]) -> Labels | None:
        """Labels of the dimension that axes are flattened to."""
        labelled = [place for place, labels in enumerate(axes) if labels is not None]
        if not labelled:
            return None
        for known in self._factors:
            if known.sizes == tuple(sizes) and all(
                one is other for one, other in zip(known.axes, axes, strict=True)
            ):
                return known.flat
        if len(labelled) == 1:
            factor = Factor(np.zeros(0, np.int64), tuple(axes), tuple(sizes))
            only = axes[labelled[0]]
            assert only is not None
            flat = factor.along(labelled[0], only)
        else:
            flat = self._classes.new(int(np.prod(sizes)))
        self._add(Factor(flat, tuple(axes), tuple(sizes)))
        return flat

    def _add(self, factor: Factor) -> None:
        self._factors.append(factor)
        self._by_flat[id(factor.flat), factor.sizes] = factor

    def resolve(self) -> None:
        """Choose for each rectangle the axis along which it is cut.

        An axis qualifies unless it is frozen. If several do, the one is taken along which another
        rectangle is cut already, as all of attention is cut along heads; else the one that leaves
        most pieces, the outer of equals.
        """
        waiting = list(self._factors)
        while waiting:
            undecided = [factor for factor in waiting if not self._decide(factor)]
            if len(undecided) == len(waiting):
                # The largest first: the axes of grouped convolutions' inputs and outputs hang
                # together, and the choice for one is the choice for the other.
                ranked = [(*self._best(factor), -place) for place, factor in enumerate(undecided)]
                _, axis, place = max(ranked)
                self._cut(undecided.pop(-place), -axis)
            waiting = undecided
        # What a later choice froze reaches rectangles that were cut before.
        intact = self._factors
        while dead := [factor for factor in intact if not self._able(factor)]:
            intact = [factor for factor in intact if self._able(factor)]
            for factor in dead:
                self._cut(factor, None)

    def _decide(self, factor: Factor) -> bool:
        """Cut it if there is nothing to choose."""
        able = self._candidates(factor)
        if len(able) > 1:
            return False
        self._cut(factor, able[0] if able else None)
        return True

    def _candidates(self, factor: Factor) -> list[int]:
        """Axes to choose from: those along which others are cut already, if there are such."""
        able = self._able(factor)
        taken = [axis for axis in able if self._classes.marked(_labels(factor, axis), CHOSEN).any()]
        return taken or able

    def _best(self, factor: Factor) -> tuple[int, int]:
        """Pieces along the best axis, and minus its number."""
        return max((self._pieces(factor, axis), -axis) for axis in self._candidates(factor))

    def _able(self, factor: Factor) -> list[int]:
        """Axes that may be cut along."""
        if self._classes.frozen(factor.flat).all():
            return []
        return [
            axis
            for axis, labels in enumerate(factor.axes)
            if labels is not None and not self._classes.frozen(labels).all()
        ]

    def _cut(self, factor: Factor, along: int | None) -> None:
        classes = self._classes
        reason = NOT_ALONG
        if along is None:
            reason = next(
                (
                    classes.reasons(labels)[0][0]
                    for labels in (factor.flat, *factor.axes)
                    if labels is not None and classes.frozen(labels).any()
                ),
                NOT_ALONG,
            )
            classes.freeze(factor.flat, reason)
        for axis, labels in enumerate(factor.axes):
            if labels is None:
                continue
            if axis != along:
                classes.freeze(labels, reason)
            else:
                classes.unite(factor.flat, factor.along(axis, labels))
                classes.mark(labels, CHOSEN)

    def _pieces(self, factor: Factor, axis: int) -> int:
        """How many classes are left if the rectangle is cut along this axis."""
        _, flat = np.unique(self._classes.find(factor.flat), return_inverse=True)
        trial = Classes()
        labels = trial.new(int(flat.max()) + 1 + factor.sizes[axis])
        places = factor.along(axis, np.arange(factor.sizes[axis], dtype=np.int64))
        trial.unite(labels[flat], labels[places + int(flat.max()) + 1])
        return len(np.unique(trial.find(labels)))


def _labels(factor: Factor, axis: int) -> Labels:
    labels = factor.axes[axis]
    assert labels is not None
    return labels
