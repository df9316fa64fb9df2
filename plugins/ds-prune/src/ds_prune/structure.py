"""What may be removed from a model, and what each removal takes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Role = Literal["produce", "follow", "consume"]
"""What a dimension of a tensor has to do with channels: it makes them (rows of a linear layer's
weight, its bias), treats each by itself (normalisations, depthwise convolutions), or is summed over
(columns of the next layer's weight)."""

Kept = Mapping[str, "NDArray[np.bool_]"]
"""For each group's name whether each of its atoms stays; groups that are not there stay whole."""


@dataclass(frozen=True)
class Member:
    """The part of one dimension of one tensor that belongs to a group.

    Attributes:
        tensor: Name of a parameter or buffer in the model, the first one where several names share
            it.
        dim: The dimension.
        role: What it does with the channels.
        index: `[atoms, k]` int64; with atom `i`, indices `index[i]` of the dimension go.
    """

    tensor: str
    dim: int
    role: Role
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Atoms that may go one by one: channels, heads, or blocks of channels that go together.

    Attributes:
        name: Of the first layer that produces them; unique in a structure.
        kind: What an atom is: `channel`, `head`, or `block` (several channels of one dimension).
        members: Everything that an atom's removal slices. All have as many atoms.
        normalised: Whether statistics are taken over the channels (LayerNorm, RMSNorm, means): the
            rest then computes something else without them, so that they are not taken by default.
        multiple: Of what the numbers of channels that stay have to be multiples; an operation takes
            no others.
    """

    name: str
    kind: Literal["channel", "head", "block"]
    members: tuple[Member, ...]
    normalised: bool = False
    multiple: int = 1

    @property
    def count(self) -> int:
        """Atoms."""
        return len(self.members[0].index)


@dataclass(frozen=True)
class Frozen:
    """A dimension of a parameter that stays whole, or a part of it does.

    Attributes:
        tensor: Name of the parameter.
        dim: The dimension.
        indices: How many of its indices stay.
        reason: Why, as a clause: `it makes the model's output`.
    """

    tensor: str
    dim: int
    indices: int
    reason: str


@dataclass(frozen=True)
class Extent:
    """How long a dimension is, as a function of what is kept.

    Attributes:
        fixed: Indices that stay whatever is removed.
        parts: For each group's name, `[atoms]` int64: indices that go with each atom.
    """

    fixed: int
    parts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def size(self, kept: Kept) -> int:
        """Its length with these atoms kept."""
        return self.fixed + sum(
            int((counts * kept[name]).sum()) if name in kept else int(counts.sum())
            for name, counts in self.parts.items()
        )


@dataclass(frozen=True)
class Work:
    """The multiply-adds of one operation in one forward.

    Attributes:
        layer: Name of the module whose forward does it; empty for the model's own.
        operation: As torch names it: `conv2d`, `linear`, `scaled_dot_product_attention`.
        repeats: Multiply-adds for each combination of the extents' indices.
        extents: Dimensions that multiply.
    """

    layer: str
    operation: str
    repeats: int
    extents: tuple[Extent, ...]

    def multiply_adds(self, kept: Kept) -> int:
        """With these atoms kept."""
        total = self.repeats
        for extent in self.extents:
            total *= extent.size(kept)
        return total


@dataclass(frozen=True)
class Structure:
    """All that was found out about a model.

    Attributes:
        groups: What may be removed.
        frozen: What may not, with reasons.
        shapes: For each parameter, the extents of its dimensions, so that counting parameters
            needs no model.
        work: Multiply-adds of one forward of the example inputs.
        notes: What the user should know, one sentence each, as that a fallback was taken.
    """

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    shapes: Mapping[str, tuple[Extent, ...]]
    work: tuple[Work, ...]
    notes: tuple[str, ...] = ()

    def group(self, name: str) -> Group:
        """The group of that name."""
        return next(group for group in self.groups if group.name == name)

    def parameters(self, kept: Kept) -> int:
        """How many numbers the model's parameters have with these atoms kept."""
        total = 0
        for extents in self.shapes.values():
            numbers = 1
            for extent in extents:
                numbers *= extent.size(kept)
            total += numbers
        return total

    def multiply_adds(self, kept: Kept) -> int:
        """Of one forward of the example inputs, with these atoms kept."""
        return sum(work.multiply_adds(kept) for work in self.work)


def members_by_tensor(groups: Sequence[Group]) -> dict[tuple[str, int], list[tuple[Group, Member]]]:
    """All that belongs to each dimension of each tensor."""
    found: dict[tuple[str, int], list[tuple[Group, Member]]] = {}
    for group in groups:
        for member in group.members:
            found.setdefault((member.tensor, member.dim), []).append((group, member))
    return found
