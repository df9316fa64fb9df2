"""A walk over a model's graph: what each operation says about labels is kept here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_prune.analysis.call import Call
from ds_prune.analysis.factors import Factors
from ds_prune.analysis.labels import FIXED, Classes
from ds_prune.analysis.records import Product, Reader, Statistic
from ds_prune.analysis.value import NOWHERE, Origin, Value

if TYPE_CHECKING:
    from torch.fx import Node

    from ds_prune.analysis.labels import Labels
    from ds_prune.structure import Role

LARGEST = 4_000_000
"""Labels of one dimension; a larger one is frozen."""

UNCUT = "something that cannot be cut"

HEAD = "head"
"""The mark of a dimension of which each index is a head of attention: products of activations are
taken for each by itself."""

MULTIPLE = "multiple of "
"""How a mark begins of channels of which only multiples of a number can be computed with."""

NORMALISED = "normalised"
"""The mark of channels over which statistics are taken."""


@dataclass
class Flow:
    """What is found out on the way."""

    classes: Classes = field(default_factory=Classes)
    factors: Factors = field(init=False)
    roles: dict[Origin, set[Role]] = field(default_factory=dict)
    readers: list[Reader] = field(default_factory=list)
    statistics: list[Statistic] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    unread: set[int] = field(default_factory=set)
    multiples: set[int] = field(default_factory=set)
    unsized: bool = False
    """Whether a product has sizes that depend on the data, which count as 1."""

    def __post_init__(self) -> None:
        self.factors = Factors(self.classes)

    # Labels

    def freeze(self, value: Value, dims: Iterable[int], reason: str) -> None:
        """Keep dimensions of a tensor whole."""
        for dim in dims:
            labels = value.labels[dim]
            if labels is not None:
                self.classes.freeze(labels, reason)

    def freeze_all(self, values: Iterable[Value], reason: str) -> None:
        """Keep tensors whole."""
        for value in values:
            self.freeze(value, range(value.rank), reason)

    def meet(
        self, entries: Sequence[tuple[Value, int]], does: str = "is combined with"
    ) -> Labels | None:
        """Unite a dimension of several tensors, index by index.

        Dimensions of size 1 are repeated and say nothing, as do dimensions of uniform tensors. If
        any other has no labels, nothing can go from the rest either; `does` says why.
        """
        wide = [(value, dim) for value, dim in entries if value.shape[dim] != 1]
        labelled = [labels for value, dim in wide if (labels := value.labels[dim]) is not None]
        if not labelled:
            return None
        for labels in labelled[1:]:
            self.classes.unite(labelled[0], labels)
        for value, dim in wide:
            if value.labels[dim] is None and not value.uniform[dim]:
                self.classes.freeze(labelled[0], f"it {does} {value.source or UNCUT}")
        return labelled[0]

    def split(self, labels: Labels | None, sizes: Sequence[int]) -> tuple[Labels | None, ...]:
        """Labels of the axes into which a dimension is viewed."""
        return (None,) * len(sizes) if labels is None else self.factors.split(labels, sizes)

    def merge(self, axes: Sequence[Labels | None], sizes: Sequence[int]) -> Labels | None:
        """Labels of the dimension that axes are flattened to."""
        if any(labels is not None for labels in axes) and int(np.prod(sizes)) > LARGEST:
            for labels in axes:
                if labels is not None:
                    self.classes.freeze(labels, "it is flattened to more than can be followed")
            return None
        return self.factors.merge(axes, sizes)

    def chain(self, pieces: Sequence[Labels | None], lengths: Sequence[int]) -> Labels | None:
        """Labels of dimensions put one after another."""
        if all(labels is None for labels in pieces):
            return None
        return np.concatenate(
            [
                np.full(length, FIXED, np.int64) if labels is None else labels
                for labels, length in zip(pieces, lengths, strict=True)
            ]
        )

    # Roles

    def play(self, value: Value, dim: int, role: Role) -> None:
        """Note what a parameter's dimension does."""
        for origin in value.origins[dim]:
            self.roles.setdefault(origin, set()).add(role)

    def read(self, call: Call, weight: Value, dim: int) -> None:
        """Note that `weight` is summed over along `dim`."""
        self.play(weight, dim, "consume")
        labels = weight.labels[dim]
        if labels is not None:
            self.readers.append(Reader(call.node, self.node_of(call, weight), dim, labels))

    def node_of(self, call: Call, value: Value) -> Node:
        """The operand of a call that a value is."""
        for node in call.node.all_input_nodes:
            if self.values.get(node) is value:
                return node
        raise LookupError("the weight is no operand")

    values: dict[Node, Any] = field(default_factory=dict)

    # Sizes that operations take

    def align(self, labels: Labels | None, multiple: int) -> None:
        """Note that an operation takes only multiples of a number of channels."""
        if labels is not None:
            self.classes.mark(labels, f"{MULTIPLE}{multiple}")
            self.multiples.add(multiple)

    def multiple(self, labels: Labels) -> int:
        """Of what the number of channels in these classes has to be a multiple."""
        marks = [n for n in self.multiples if self.classes.marked(labels, f"{MULTIPLE}{n}").any()]
        return math.lcm(*marks)

    # Statistics

    def statistic(self, call: Call, value: Value, dims: Iterable[int]) -> frozenset[int]:
        """Note statistics over `dims`; the result is what they are known by.

        They are fine once they meet the channels that they were taken over, as where a
        normalisation divides by them; channels of statistics that go elsewhere are frozen.
        """
        over = {dim: labels for dim in dims if (labels := value.labels[dim]) is not None}
        if not over:
            return frozenset()
        for labels in over.values():
            self.classes.mark(labels, NORMALISED)
        self.statistics.append(Statistic(call.node, over))
        self.unread.add(len(self.statistics) - 1)
        return frozenset([len(self.statistics) - 1])

    def settle(self, values: Sequence[Value]) -> frozenset[int]:
        """Statistics in values that are combined; those that meet their channels are settled."""
        carried = frozenset().union(*(value.statistics for value in values))
        for number in carried & self.unread:
            if all(
                any(
                    one is not None and self.classes.same(one, labels)
                    for value in values
                    for one in value.labels
                )
                for labels in self.statistics[number].over.values()
            ):
                self.unread.discard(number)
        return carried

    # Elementwise

    def elementwise(self, values: Sequence[Value], shape: Sequence[int]) -> Value:
        """Tensors combined entry by entry, broadcast to `shape`."""
        rank = len(shape)
        entries = [
            [(value, dim + value.rank - rank) for value in values if dim + value.rank >= rank]
            for dim in range(rank)
        ]
        made_of_weights = any(value.is_weight for value in values) and all(
            value.is_weight or value.rank == 0 or all(value.uniform) for value in values
        )
        if not made_of_weights:
            for value in values:
                for dim in range(value.rank):
                    self.play(value, dim, "follow")
        labels = tuple(self.meet(entry) for entry in entries)
        origins = tuple(
            NOWHERE.union(*(value.origins[dim] for value, dim in entry))
            if made_of_weights
            else NOWHERE
            for entry in entries
        )
        uniform = tuple(
            all(value.uniform[dim] or value.shape[dim] != size for value, dim in entry)
            for entry, size in zip(entries, shape, strict=True)
        )
        sources = {value.source for value in values if not value.labelled and value.rank}
        return Value(
            tuple(shape),
            labels,
            origins,
            uniform,
            self.settle(values),
            sources.pop() if len(sources) == 1 else "",
        )

    # Contraction

    def contract(
        self,
        call: Call,
        operands: Sequence[tuple[Value, str]],
        out: str,
        reader: Value | None = None,
    ) -> Value:
        """Products summed over the letters that are not in `out`, as by `einsum`.

        Args:
            call: The operation.
            operands: Tensors, with a letter for each dimension.
            out: Letters of the result.
            reader: The operand that is the layer's weight; without, the last that is one.
        """
        if reader is None:
            weights = [value for value, _ in operands if value.is_weight]
            reader = weights[-1] if weights else None
        labels: dict[str, Labels | None] = {}
        length: dict[str, int] = {}
        for letter in dict.fromkeys("".join(letters for _, letters in operands)):
            entries = [
                (value, dim)
                for value, letters in operands
                for dim, one in enumerate(letters)
                if one == letter
            ]
            length[letter] = max(value.shape[dim] for value, dim in entries)
            if letter in out:
                for value, dim in entries:
                    self.play(value, dim, "produce" if len(entries) == 1 else "follow")
                labels[letter] = found = self.meet(entries)
                if found is not None and len(entries) > 1 and reader is None:
                    self.classes.mark(found, HEAD)
            elif len(entries) == 1:
                value, dim = entries[0]
                self.freeze(value, [dim], "it is summed up without a weight")
                labels[letter] = value.labels[dim]
            else:
                labels[letter] = self._sum_over(call, entries, reader)
        free = [length[letter] for letter, found in labels.items() if found is None]
        self.unsized |= min(free, default=1) < 0
        self.products.append(
            Product(
                call.layer,
                call.name,
                math.prod(max(size, 1) for size in free),
                tuple(found for found in labels.values() if found is not None),
            )
        )
        return Value(
            tuple(length[letter] for letter in out), tuple(labels[letter] for letter in out)
        )

    def _sum_over(
        self, call: Call, entries: Sequence[tuple[Value, int]], reader: Value | None
    ) -> Labels | None:
        labels = self.meet(entries, "sums over")
        for value, dim in entries:
            if value is reader:
                self.read(call, value, dim)
            else:
                self.play(value, dim, "produce")
        if labels is not None and all(value is not reader for value, _ in entries):
            self.classes.freeze(labels, "it is summed over between two activations")
        return labels
