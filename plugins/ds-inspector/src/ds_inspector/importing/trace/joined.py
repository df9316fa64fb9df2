"""Columns of all pieces of a trace."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds_inspector.forest import Ints
from ds_inspector.importing.trace.columns import Codes, Columns


class Joined:
    """Columns of pieces, in the order in which these are added.

    Attributes:
        rows: How many.

    After `finish`:
        numbers: Integers or floats.
        codes: Numbers into what is `known`.
        known: What distinct values there are.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.numbers: dict[str, NDArray[Any]] = {}
        self.codes: dict[str, Ints] = {}
        self.known: dict[str, list[Any]] = {}
        self._numbers: dict[str, list[array[Any]]] = {}
        self._codes: dict[str, list[Ints]] = {}
        self._known: dict[str, Codes] = {}

    def add(self, columns: Columns) -> None:
        """Add the rows of one."""
        self.rows += columns.rows
        for name, values in columns.numbers.items():
            self._numbers.setdefault(name, []).append(values)
        for name, codes in columns.codes.items():
            known = self._known.setdefault(name, Codes())
            here = np.array([*known.of(columns.known[name]), 0], np.int64)
            self._codes.setdefault(name, []).append(here[np.asarray(codes)])

    def finish(self) -> None:
        """Join what was added."""
        self.numbers = {name: np.concatenate(parts) for name, parts in self._numbers.items()}
        self.codes = {name: np.concatenate(parts) for name, parts in self._codes.items()}
        self.known = {name: list(known) for name, known in self._known.items()}
