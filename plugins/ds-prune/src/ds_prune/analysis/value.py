"""What is known of a tensor while a model's graph is walked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds_prune.analysis.labels import Labels

Origin = tuple[str, int]
"""A parameter's or buffer's name and one of its dimensions."""

NOWHERE: frozenset[Origin] = frozenset()


@dataclass(eq=False)
class Value:
    """A tensor of the graph, without its numbers.

    An entry of the tensor is no longer there, or means nothing any more, once the label of its
    index along any dimension is removed.

    Attributes:
        shape: Sizes; -1 where a size depends on data.
        labels: For each dimension a label for each index, or None for a dimension from which
            nothing can be removed, as that of the batch.
        origins: For each dimension, the parameters' dimensions that it is, if the tensor is a
            parameter or made of parameters only.
        uniform: For each dimension, whether all along it is the same, as in `torch.zeros` or after
            `expand`, so that it can be made at any size.
        statistics: Numbers of statistics over labelled dimensions that have gone into it.
        source: What it is, if it has no labels: `the model's input`; empty where that is unknown.
    """

    shape: tuple[int, ...]
    labels: tuple[Labels | None, ...]
    origins: tuple[frozenset[Origin], ...] = ()
    uniform: tuple[bool, ...] = ()
    statistics: frozenset[int] = field(default_factory=frozenset)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.origins:
            self.origins = (NOWHERE,) * len(self.shape)
        if not self.uniform:
            self.uniform = (False,) * len(self.shape)

    @property
    def rank(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def labelled(self) -> bool:
        """Whether any dimension has labels."""
        return any(labels is not None for labels in self.labels)

    @property
    def is_weight(self) -> bool:
        """Whether it is a parameter or buffer, or made of such only."""
        return any(self.origins)

    def activation(self) -> Value:
        """The same without origins: no longer a parameter."""
        return replace(self, origins=(NOWHERE,) * self.rank)

    def pick(self, dims: Sequence[int | None], shape: Sequence[int]) -> Value:
        """Dimensions in another order, or left out; None stands for a new one."""
        return replace(
            self,
            shape=tuple(shape),
            labels=tuple(None if dim is None else self.labels[dim] for dim in dims),
            origins=tuple(NOWHERE if dim is None else self.origins[dim] for dim in dims),
            uniform=tuple(dim is None or self.uniform[dim] for dim in dims),
        )


def free(shape: Sequence[int], source: str = "") -> Value:
    """A tensor from which nothing can be removed."""
    return Value(tuple(shape), (None,) * len(shape), source=source)
