"""One flat graph of a graph with subgraphs."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ds_prune.analysis.graph import AUTOCAST, ROOT

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, GraphModule, Node


class Inlined:
    """A graph without the subgraphs that regions without gradients, or with autocast, are put into.

    Attributes:
        graph: The flat one, without what does not matter to outputs.
        layers: For each node the name of the module whose forward does it.
        attributes: Tensors that the graph has by itself, by their nodes.
    """

    def __init__(self, module: GraphModule) -> None:
        import torch

        self.graph: Graph = torch.fx.Graph()
        self.layers: dict[Node, str] = {}
        self.attributes: dict[Node, Tensor] = {}
        self._copy(module, None, None)
        # As averages of attention that nobody asked for.
        self.graph.eliminate_dead_code(lambda node: node.is_impure() or _is_bracket(node))
        left = set(self.graph.nodes)
        self.layers = {node: layer for node, layer in self.layers.items() if node in left}
        self.attributes = {node: one for node, one in self.attributes.items() if node in left}

    def _copy(self, module: GraphModule, given: Sequence[Any] | None, autocast: Any) -> Any:
        """Take over a module's graph; its inputs are `given`, or are those of the whole."""
        import torch

        taken: dict[Node, Any] = {}
        waiting = iter(given or ())

        def new(argument: Any) -> Any:
            return torch.fx.node.map_arg(argument, lambda node: taken[node])

        for node in module.graph.nodes:
            if node.op == "placeholder" and given is not None:
                taken[node] = next(waiting)
            elif node.op == "output" and given is not None:
                return new(node.args[0])
            elif node.op == "get_attr" and hasattr(_attribute(module, node), "graph"):
                taken[node] = _attribute(module, node)
            elif (name := getattr(node.target, "__name__", "")) in _WRAPPERS:
                count = _WRAPPERS[name]
                inner = tuple(node.args[:count]) if "autocast" in name else autocast
                taken[node] = self._copy(
                    taken[node.args[count]], new(node.args[count + 1 :]), inner
                )
            elif node.target is operator.getitem and isinstance(taken[node.args[0]], (tuple, list)):
                taken[node] = taken[node.args[0]][node.args[1]]
            else:
                made = self.graph.create_node(
                    node.op, node.target, new(node.args), new(node.kwargs), node.name
                )
                made.meta = dict(node.meta)
                if autocast is not None:
                    made.meta[AUTOCAST] = autocast
                if node.op == "get_attr":
                    self.attributes[made] = made.meta["val"] = _attribute(module, node)
                self.layers[made] = _layer(node)
                taken[node] = made
        return None


_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Operations that run a subgraph in some mode, and how many arguments say the mode."""


def _is_bracket(node: Node) -> bool:
    """Whether it begins or ends a part under `torch.vmap`, without having a result."""
    return getattr(node.target, "__name__", "").endswith("_nesting")


def _attribute(module: GraphModule, node: Node) -> Any:
    return operator.attrgetter(str(node.target))(module)


def _layer(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path: str = stack[-1][0] if stack else ""
    return path.removeprefix(ROOT).removeprefix(".")
