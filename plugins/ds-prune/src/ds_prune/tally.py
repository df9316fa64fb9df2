"""Multiply-adds and parameters of a structure, counted fast enough to be counted thousands of
times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ds_prune.structure import Extent, Kept, Structure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Tally:
    """Gives the same numbers as the structure's own methods.

    Every different extent has a number; `sizes` are the lengths of all extents by that number, and
    what the model costs follows from them by a few array operations.
    """

    def __init__(self, structure: Structure) -> None:
        self._numbers: dict[object, int] = {}
        self._extents: list[Extent] = []
        self._extent(Extent(1))  # fills rows up, as a product with fewer factors has ones
        self._work = self._products((work.repeats, work.extents) for work in structure.work)
        self._shapes = self._products((1, extents) for extents in structure.shapes.values())
        self.whole: Ints = np.array([extent.size({}) for extent in self._extents], np.int64)
        self.parts: dict[str, tuple[Ints, Ints]] = {}
        """For each group `[n]` numbers of extents that it is part of, and `[atoms, n]` how many
        indices of them go with each atom."""
        for group in structure.groups:
            rows = [row for row, extent in enumerate(self._extents) if group.name in extent.parts]
            counts = [self._extents[row].parts[group.name] for row in rows]
            table = np.stack(counts, 1) if counts else np.zeros((group.count, 0))
            self.parts[group.name] = np.array(rows, np.int64), table.astype(np.int64)

    def sizes(self, kept: Kept) -> Ints:
        """`[extents]`, with these atoms kept."""
        sizes = self.whole.copy()
        for name, mask in kept.items():
            rows, counts = self.parts[name]
            sizes[rows] -= counts[~mask].sum(0)
        return sizes

    def multiply_adds(self, sizes: Ints) -> int:
        """Of one forward of the example inputs."""
        return self._total(self._work, sizes)

    def parameters(self, sizes: Ints) -> int:
        """How many numbers the parameters have."""
        return self._total(self._shapes, sizes)

    def number(self, extent: Extent) -> int:
        """Where in `sizes` an extent's length is.

        Raises:
            KeyError: The structure's work and shapes have no such extent.
        """
        return self._numbers[_identity(extent)]

    def _extent(self, extent: Extent) -> int:
        number = self._numbers.setdefault(_identity(extent), len(self._extents))
        if number == len(self._extents):
            self._extents.append(extent)
        return number

    def _products(self, products: Iterable[tuple[int, tuple[Extent, ...]]]) -> tuple[Ints, Ints]:
        """Factors `[n]` and, for each, the numbers `[n, most]` of the extents that multiply."""
        rows = [
            (factor, [self._extent(extent) for extent in extents]) for factor, extents in products
        ]
        most = max((len(numbers) for _, numbers in rows), default=0)
        table = np.zeros((len(rows), most), np.int64)
        for row, (_, numbers) in zip(table, rows, strict=True):
            row[: len(numbers)] = numbers
        return np.array([factor for factor, _ in rows], np.int64), table

    @staticmethod
    def _total(products: tuple[Ints, Ints], sizes: Ints) -> int:
        factors, table = products
        return int((factors * sizes[table].prod(1)).sum())


def _identity(extent: Extent) -> object:
    parts = [(name, counts.tobytes()) for name, counts in sorted(extent.parts.items())]
    return extent.fixed, tuple(parts)
