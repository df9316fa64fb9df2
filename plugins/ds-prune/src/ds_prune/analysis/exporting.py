"""A forward as a graph, by torch.export."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ds_core.nested import tensors_in
from ds_prune.analysis.fixed import FixedNumbers
from ds_prune.analysis.graph import ROOT, Arguments, Capture, ancestors, first_names
from ds_prune.analysis.inlining import Inlined
from ds_prune.analysis.questions import Answers, Hearing, answering
from ds_prune.analysis.undisturbed import untouched

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, Node
    from torch.nn import Module


def exported(model: Module, inputs: Arguments, answers: Answers | None = None) -> Capture:
    """Follow a forward without computing it.

    With answers it may branch on the values of tensors; where it asks for others it is told no.
    """
    import torch
    from torch.export.graph_signature import InputKind

    heard, numbers = _Heard(), FixedNumbers(model)
    with heard.listening():
        flattened = _flattened(model, heard, numbers, answers)
        with untouched(model):
            program = torch.export.export(flattened, *inputs, strict=False)
        if numbers.forget_changed():
            with untouched(model):
                program = torch.export.export(flattened, *inputs, strict=False)
    unread = _keep_unread(program.graph_module.graph, heard.counts)
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
    return Capture(
        flat.graph,
        states,
        constants,
        tuple(given),
        flat.layers,
        unread=unread,
        asked=tuple(heard.questions.tensors),
        answers=heard.questions.answers,
    )


class _Heard:
    """What layers with parameters of their own give out in a forward."""

    def __init__(self) -> None:
        self.layers: list[list[Tensor]] = []
        self.counts: list[int] = []
        """How many tensors the model and then each layer gave out."""
        self.questions = Hearing()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within, layers are heard."""
        from torch.nn.modules.module import register_module_forward_hook

        def hear(module: Module, _: Any, output: Any) -> None:
            if any(True for _ in module.parameters(recurse=False)):
                self.layers.append(list(tensors_in(output)))

        handle = register_module_forward_hook(hear)
        try:
            yield
        finally:
            handle.remove()
            self.layers = []


def _flattened(
    model: Module, heard: _Heard, numbers: FixedNumbers, answers: Answers | None
) -> Module:
    """A module that returns the tensors in the model's outputs, and those of its layers, as a list.

    Between them are those whose values it asked for. A layer whose output nobody uses would
    otherwise not be in the graph, and is called all the same.
    """
    import torch

    class Flattened(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(ROOT, model)
            self.training = False

        def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
            heard.layers = []
            asked = nullcontext(Hearing()) if answers is None else answering(answers, False)
            with numbers.told(), asked as heard.questions:
                outputs = list(tensors_in(model(*args, **kwargs)))
            outputs += heard.questions.tensors.values()
            heard.counts = [len(outputs), *map(len, heard.layers)]
            return [*outputs, *(tensor for layer in heard.layers for tensor in layer)]

    return Flattened()


def _keep_unread(graph: Graph, counts: Sequence[int]) -> int:
    """Leave only those layers' outputs that nothing else uses; how many tensors they are."""
    end = next(iter(reversed(graph.nodes)))
    nodes: list[Any] = list(end.args[0])
    own = nodes[: counts[0]]
    used = ancestors(own)
    unread: list[Any] = []
    at = counts[0]
    for count in counts[1:]:
        layer = nodes[at : at + count]
        if not used.intersection(layer):
            unread += layer
        at += count
    end.args = ((*own, *unread),)
    return len(unread)
