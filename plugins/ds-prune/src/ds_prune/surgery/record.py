"""What was removed from a model, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from ds_core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, ...]
Value = int | tuple[int, ...]
"""Of an attribute: a number, or several."""
Dims = Mapping[int, "NDArray[np.int64]"]
"""For dimensions of one tensor the indices that stay, in their order."""


@dataclass(frozen=True)
class Change:
    """An attribute of a module that counts channels or heads.

    Attributes:
        module: Its name in the model; empty for the model itself.
        attribute: Its name in the module.
        old: What it was.
        new: What it is now.
    """

    module: str
    attribute: str
    old: Value
    new: Value


@dataclass(frozen=True)
class Record:
    """A removal, which can be done again on a model of the same architecture.

    Attributes:
        shapes: Of each parameter and buffer, before and after, in the model's order. Of those that
            are shared, only the first name is there.
        kept: For each tensor that was cut, the indices that stay.
        attributes: What was changed in modules.
        attention: Modules that became a `PrunedMultiheadAttention`, before their attributes
            changed.
    """

    shapes: Mapping[str, tuple[Shape, Shape]]
    kept: Mapping[str, Dims] = field(default_factory=dict)
    attributes: tuple[Change, ...] = ()
    attention: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[int, int]:
        """Numbers in all parameters and buffers, before and after."""
        before, after = 0, 0
        for old, new in self.shapes.values():
            before, after = before + _numel(old), after + _numel(new)
        return before, after

    def then(self, later: Record) -> Record:
        """Both removals as one.

        Raises:
            ConfigError: The later one did not begin with what this one left.
        """
        for name, (_, after) in self.shapes.items():
            if name not in later.shapes or later.shapes[name][0] != after:
                raise ConfigError(
                    f"The later removal did not begin where this one ended: {name!r} differs."
                )
        kept = {name: dict(dims) for name, dims in self.kept.items()}
        for name, dims in later.kept.items():
            own = kept.setdefault(name, {})
            for dim, index in dims.items():
                own[dim] = own[dim][index] if dim in own else index
        return Record(
            {name: (old, later.shapes[name][1]) for name, (old, _) in self.shapes.items()},
            kept,
            merged((*self.attributes, *later.attributes)),
            tuple(dict.fromkeys((*self.attention, *later.attention))),
        )

    def check(self, where: str) -> None:
        """Whether shapes and indices agree with each other.

        Raises:
            ConfigError: They do not; `where` says what holds them.
        """
        for name, dims in self.kept.items():
            if name not in self.shapes:
                raise _contradicts(where, f"{name!r} is cut and has no shape")
            before, after = self.shapes[name]
            for dim, index in dims.items():
                if not 0 <= dim < len(before):
                    raise _contradicts(where, f"{name!r} has no dimension {dim}")
                numbers = index.tolist()
                if not numbers or numbers[0] < 0 or numbers[-1] >= before[dim]:
                    raise _contradicts(where, f"of dimension {dim} of {name!r} there is no such")
                if any(left >= right for left, right in pairwise(numbers)):
                    raise _contradicts(where, f"indices of {name!r} are not in order")
        for name, (before, after) in self.shapes.items():
            dims = self.kept.get(name, {})
            expected = tuple(
                len(dims[dim]) if dim in dims else size for dim, size in enumerate(before)
            )
            if after != expected:
                raise _contradicts(where, f"{name!r} would have shape {expected}, not {after}")


def merged(changes: Iterable[Change]) -> tuple[Change, ...]:
    """One change for each attribute, from what it was first to what it is last."""
    found: dict[tuple[str, str], Change] = {}
    for one in changes:
        place = (one.module, one.attribute)
        old = found[place].old if place in found else one.old
        found[place] = Change(*place, old, one.new)
    return tuple(one for one in found.values() if one.old != one.new)


def _contradicts(where: str, what: str) -> ConfigError:
    return ConfigError(f"The plan contradicts itself: {what}.", mend="Save it anew.", where=where)


def _numel(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
