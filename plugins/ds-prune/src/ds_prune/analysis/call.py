"""One operation of a graph, as rules see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_prune.analysis.value import Value, free

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True)
class Call:
    """One operation of the graph.

    Attributes:
        node: Of the graph.
        name: As torch names it, without overload: `conv2d`.
        arguments: By the names in its schema, with values in place of nodes.
        layer: Name of the module whose forward does it.
    """

    node: Node
    name: str
    arguments: Mapping[str, Any]
    layer: str

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def value(self, name: str) -> Value:
        """A tensor among the arguments."""
        value: Value = self.arguments[name]
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or `default` if this overload has none of that name."""
        return self.arguments.get(name, default)

    @property
    def values(self) -> list[Value]:
        """All tensors among the arguments."""
        return list(_values_in(self.arguments.values()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its only result."""
        return sizes(self.node.meta["val"])

    def axis(self, value: Value, name: str = "dim", default: Any = None) -> int:
        """A dimension among the arguments, counted from the front."""
        dim = self.get(name, default)
        return int(dim) % max(value.rank, 1)


def sizes(fake: Any) -> tuple[int, ...]:
    """A fake tensor's shape, with -1 where it depends on data."""
    return tuple(size if isinstance(size, int) else -1 for size in fake.shape)


def _values_in(items: Iterable[Any]) -> Iterable[Value]:
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _values_in(item)


def unlabelled(call: Call) -> Any:
    """The results of an operation as tensors from which nothing can be removed."""
    import torch

    made = call.node.meta.get("val")
    if isinstance(made, torch.Tensor):
        return free(sizes(made))
    if isinstance(made, (list, tuple)):
        return tuple(free(sizes(one)) if isinstance(one, torch.Tensor) else None for one in made)
    return None
