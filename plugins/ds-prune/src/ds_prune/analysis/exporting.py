"""A forward as a graph, by torch.export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.nested import tensors_in
from ds_prune.analysis.graph import ROOT, Arguments, Capture, first_names
from ds_prune.analysis.inlining import Inlined

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node
    from torch.nn import Module


def exported(model: Module, inputs: Arguments) -> Capture:
    """Follow a forward without computing it."""
    import torch
    from torch.export.graph_signature import InputKind

    program = torch.export.export(_flattened(model), inputs[0], inputs[1], strict=False)
    flat = Inlined(program.graph_module)
    constants = dict(flat.attributes)
    holders = {node.name: node for node in flat.graph.nodes if node.op == "placeholder"}
    names = first_names(model)
    states: dict[Node, str] = {}
    given: list[Node] = []
    for spec in program.graph_signature.input_specs:
        node = holders[spec.arg.name]
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            states[node] = names[str(spec.target).removeprefix(f"{ROOT}.")]
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            constants[node] = program.constants[str(spec.target)]
        elif isinstance(node.meta.get("val"), torch.Tensor):
            given.append(node)
    return Capture(flat.graph, states, constants, tuple(given), flat.layers)


def _flattened(model: Module) -> Module:
    """A module that returns the tensors in the model's outputs as a list."""
    import torch

    class Flattened(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(ROOT, model)
            self.training = False

        def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
            return list(tensors_in(model(*args, **kwargs)))

    return Flattened()
