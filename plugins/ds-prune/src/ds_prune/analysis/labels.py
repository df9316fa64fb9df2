"""Which indices go together: one large union-find, held in arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
"""For each index along a dimension the label of what goes with it."""

FIXED = 0
"""The label of an index that never goes."""

_MANY = np.iinfo(np.int32).max


class Classes:
    """Labels and which of them are united.

    Labels are integers. Two that are united belong to one class, whose indices are removed
    together. A class is frozen once any of its labels is: none of it may then be removed. Classes
    carry marks besides, which unions join.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)
        self._reason = np.zeros(1, np.int32)
        self._marks: dict[str, NDArray[np.bool_]] = {}
        self._count = 1
        self._reasons: list[str] = ["it is combined with something that cannot be cut"]
        self._numbers: dict[str, int] = {self._reasons[0]: 0}

    @property
    def size(self) -> int:
        """How many labels there are."""
        return self._count

    def new(self, count: int) -> Labels:
        """Fresh labels, each in a class of its own."""
        start, end = self._count, self._count + count
        if end > len(self._parent):
            room = max(end, 2 * len(self._parent)) - len(self._parent)
            self._parent = np.concatenate([self._parent, np.zeros(room, np.int64)])
            self._reason = np.concatenate([self._reason, np.full(room, _MANY, np.int32)])
            for mark, flags in self._marks.items():
                self._marks[mark] = np.concatenate([flags, np.zeros(room, np.bool_)])
        labels = np.arange(start, end, dtype=np.int64)
        self._parent[start:end] = labels
        self._count = end
        return labels

    def find(self, labels: Labels) -> Labels:
        """The representative of each label's class, the smallest of its labels."""
        found = self._parent[labels]
        while True:
            further = self._parent[found]
            if np.array_equal(further, found):
                break
            found = further
        self._parent[labels] = found
        return found

    def unite(self, left: Labels, right: Labels) -> None:
        """Make `left[i]` and `right[i]` one class, for every i."""
        first, second = self.find(left), self.find(right)
        before = np.unique(np.concatenate([first[first != second], second[first != second]]))
        while True:
            apart = first != second
            if not apart.any():
                break
            first, second = first[apart], second[apart]
            # Parents are smaller than their children, so that no circle can come about. Where a
            # label occurs twice the last wins, and the next round joins the rest.
            self._parent[np.maximum(first, second)] = np.minimum(first, second)
            first, second = self.find(first), self.find(second)
        if len(before):
            roots = self.find(before)
            np.minimum.at(self._reason, roots, self._reason[before])
            for flags in self._marks.values():
                np.logical_or.at(flags, roots, flags[before])

    def freeze(self, labels: Labels, reason: str) -> None:
        """Keep these classes whole; of several reasons the first stands."""
        number = self._numbers.setdefault(reason, len(self._reasons))
        if number == len(self._reasons):
            self._reasons.append(reason)
        roots = self.find(labels)
        roots = roots[self._reason[roots] == _MANY]
        self._reason[roots] = number

    def frozen(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether each label's class is frozen."""
        flags: NDArray[np.bool_] = self._reason[self.find(labels)] != _MANY
        return flags

    def reasons(self, labels: Labels) -> list[tuple[str, int]]:
        """Why labels are frozen and how many for each reason; those not frozen are left out."""
        numbers = self._reason[self.find(labels)]
        found, counts = np.unique(numbers[numbers != _MANY], return_counts=True)
        return [
            (self._reasons[number], int(count)) for number, count in zip(found, counts, strict=True)
        ]

    def mark(self, labels: Labels, mark: str) -> None:
        """Set a mark on these classes."""
        flags = self._marks.setdefault(mark, np.zeros(len(self._parent), np.bool_))
        flags[self.find(labels)] = True

    def marked(self, labels: Labels, mark: str) -> NDArray[np.bool_]:
        """Whether each label's class has the mark."""
        roots = self.find(labels)
        if mark not in self._marks:
            return np.zeros(len(roots), np.bool_)
        flags: NDArray[np.bool_] = self._marks[mark][roots]
        return flags

    def same(self, left: Labels, right: Labels) -> bool:
        """Whether two dimensions have the same classes in the same order."""
        return len(left) == len(right) and np.array_equal(self.find(left), self.find(right))
