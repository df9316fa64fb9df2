"""A table of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds_inspector.recording.schema import TABLES, TEXT

Array = NDArray[Any]


class Texts:
    """A column of text, most of which repeat.

    Args:
        codes: Numbers into `values`, one a row.
        values: Distinct texts.
    """

    def __init__(self, codes: Array, values: Sequence[str]) -> None:
        self.codes = np.asarray(codes, "<u4")
        self.values = list(values)

    @classmethod
    def of(cls, rows: Iterable[str]) -> Texts:
        """Number the distinct texts in the order in which they come."""
        known: dict[str, int] = {}
        codes = [known.setdefault(text, len(known)) for text in rows]
        return cls(np.array(codes, "<u4"), list(known))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.values[int(self.codes[row])]

    def __iter__(self) -> Iterator[str]:
        values = self.values
        return (values[code] for code in self.codes.tolist())

    def take(self, rows: Array) -> Texts:
        """Those rows, by number or mask."""
        return Texts(self.codes[rows], self.values)

    def equal(self, text: str) -> NDArray[np.bool_]:
        """Which rows have this text."""
        code = self.values.index(text) if text in self.values else len(self.values)
        found: NDArray[np.bool_] = np.equal(self.codes, code)
        return found


Column = Array | Texts

_MISSING = {"<i4": -1, "<i8": 0, "<f8": np.nan}


class Table(Mapping[str, Column]):
    """One of a recording's tables: columns of one length, by name.

    Columns that are not given are unknown in each row.

    Args:
        name: One of `schema.TABLES`.
        columns: Arrays, `Texts`, or sequences of numbers or texts.

    Raises:
        ValueError: A column that the schema does not have, or lengths that differ.
    """

    def __init__(self, name: str, columns: Mapping[str, Any] | None = None) -> None:
        kinds = TABLES[name]
        columns = columns or {}
        if unknown := set(columns) - set(kinds):
            raise ValueError(f"There is no column {sorted(unknown)} in {name}.")
        self.name = name
        self._columns: dict[str, Column] = {}
        for column, values in columns.items():
            self._columns[column] = _column(kinds[column], values)
        lengths = {len(values) for values in self._columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"The columns of {name} have lengths {sorted(lengths)}.")
        self.rows = lengths.pop() if lengths else 0
        """How many."""
        for column, kind in kinds.items():
            if column not in self._columns:
                self._columns[column] = (
                    Texts(np.zeros(self.rows, "<u4"), [""])
                    if kind == TEXT
                    else np.full(self.rows, _MISSING[kind], kind)
                )

    def __getitem__(self, column: str) -> Column:
        return self._columns[column]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLES[self.name])

    def __len__(self) -> int:
        return len(TABLES[self.name])

    def numbers(self, column: str) -> Array:
        """A column of numbers."""
        values = self._columns[column]
        assert not isinstance(values, Texts), column
        return values

    def texts(self, column: str) -> Texts:
        """A column of text."""
        values = self._columns[column]
        assert isinstance(values, Texts), column
        return values

    def take(self, rows: Array) -> Table:
        """Those rows, by number or mask; references to rows are left as they are."""
        return Table(
            self.name,
            {
                column: values.take(rows) if isinstance(values, Texts) else values[rows]
                for column, values in self._columns.items()
            },
        )

    def replaced(self, **columns: Any) -> Table:
        """The same with other columns."""
        return Table(self.name, {**self._columns, **columns})


def _column(kind: str, values: Any) -> Column:
    if kind == TEXT:
        return values if isinstance(values, Texts) else Texts.of(values)
    return np.ascontiguousarray(np.asarray(values), kind)
