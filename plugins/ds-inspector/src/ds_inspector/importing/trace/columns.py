"""Columns of one piece of a trace: numbers, and what repeats."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class Codes(dict[Any, int]):
    """Numbers things in the order in which they come."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self)
        return number

    def of(self, keys: Iterable[Any]) -> list[int]:
        """The numbers of many."""
        return list(map(self.__getitem__, keys))


@dataclass(slots=True)
class Columns:
    """Columns of one length.

    Attributes:
        numbers: Integers or floats.
        codes: Numbers into what is `known`.
        known: What distinct values there are, in the order in which they come.
    """

    numbers: dict[str, array[Any]] = field(default_factory=dict)
    codes: dict[str, array[int]] = field(default_factory=dict)
    known: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.numbers.values()), ()))

    def number(self, name: str, kind: str, values: list[Any]) -> None:
        """Add a column of numbers, of a kind as `array` calls it.

        Raises:
            TypeError, OverflowError: One of them is none.
        """
        self.numbers[name] = array(kind, values)

    def code(self, name: str, values: list[Any]) -> None:
        """Add a column of values that repeat.

        Raises:
            TypeError: One of them cannot be hashed.
        """
        codes = Codes()
        self.codes[name] = array("I", codes.of(values))
        self.known[name] = list(codes)
