"""A graph of torch's operations, and what its inputs are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds_prune.analysis.aliasing import bases, written_into
from ds_prune.analysis.questions import Answers, Question

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, Node
    from torch.nn import Module

ROOT = "model"
"""What a model is called inside the module that is exported."""

AUTOCAST = "autocast"
"""In a node's meta: the arguments of `torch.autocast` under which it is done."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Of a forward, by position and by name."""


@dataclass(frozen=True)
class Capture:
    """A forward that was followed.

    Attributes:
        graph: Flat, of operations of torch as they were called, with each tensor's shape.
        states: For each placeholder of a parameter or buffer its name in the model, the first one
            where several names share it.
        constants: For placeholders of tensors that the forward made from numbers, these.
        inputs: Placeholders of the example inputs' tensors, in order.
        layers: For each node the name of the module whose forward does it.
        notes: What the user should know.
        unread: How many of the last outputs are of layers whose results nothing uses.
        asked: Questions to which there are two answers; their tensors are the outputs before these.
        answers: What the forward was told of tensors whose values it asked for.
    """

    graph: Graph
    states: Mapping[Node, str]
    constants: Mapping[Node, Tensor]
    inputs: tuple[Node, ...]
    layers: Mapping[Node, str]
    notes: tuple[str, ...] = ()
    unread: int = 0
    asked: tuple[Question, ...] = ()
    answers: Answers = field(default_factory=dict)

    @property
    def outputs(self) -> list[Any]:
        """What makes the model's outputs, in the order of `ds_core.nested.tensors_in`."""
        given = self._given()
        return given[: len(given) - self.unread - len(self.asked)]

    @property
    def conditions(self) -> list[Any]:
        """Tensors on whose values the forward branches."""
        given = self._given()
        return given[len(self.outputs) : len(given) - self.unread]

    def _given(self) -> list[Any]:
        end = next(iter(reversed(self.graph.nodes)))
        return list(end.args[0])


def draws(graph: Graph) -> list[str]:
    """Names of operations that draw random numbers."""
    import torch

    return sorted(
        {
            node.target.name().removeprefix("aten::").partition(".")[0]
            for node in graph.nodes
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
            and not _drops_nothing(node)
        }
    )


def _drops_nothing(node: Node) -> bool:
    """Whether an operation with dropout has it switched off."""
    for place, known in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        value = node.args[place] if place < len(node.args) else known.default_value
        value = node.kwargs.get(known.name, value)
        if known.name in ("p", "dropout_p", "dropout", "train", "training") and not value:
            return True
    return False


def ancestors(nodes: Iterable[Any]) -> set[Any]:
    """Nodes from which others are computed, and these; also by what is written into their parts."""
    import torch

    found: set[Any] = set()
    waiting = [node for node in nodes if isinstance(node, torch.fx.Node)]
    writers: dict[Any, list[Any]] = {}
    for node in waiting[0].graph.nodes if waiting else ():
        part = written_into(node)
        for whole in () if part is None else (part, *bases(part)):
            writers.setdefault(whole, []).append(node)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [*node.all_input_nodes, *writers.get(node, ())]
    return found


def first_names(model: Module) -> dict[str, str]:
    """For every name of a parameter or buffer the first that the same tensor has."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for name, tensor in states(model):
        names[name] = first.setdefault(id(tensor), name)
    return names


def states(model: Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by all their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
