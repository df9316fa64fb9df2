"""A forward as a graph where torch.export cannot follow it: what one run does is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from ds_core.causes import cause
from ds_core.errors import RefusedError
from ds_core.nested import map_tensors, tensors_in
from ds_prune.analysis.graph import ROOT, Arguments, Capture, first_names, states
from ds_prune.analysis.inlining import Inlined
from ds_prune.analysis.refusal import branches, depends_on_data
from ds_prune.analysis.undisturbed import untouched

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LAYER = "nn_module_stack"


def recorded(model: Module, inputs: Arguments, why: str) -> Capture:
    """Record a forward, on tensors without numbers if its operations allow it, else with them.

    A forward that branches on the values of its data is refused here as well: a tensor whose
    operations are recorded gives no number.

    Args:
        model: In evaluation mode.
        inputs: By position and by name.
        why: torch.export was not enough, for the note.

    Raises:
        RefusedError: It branches on data, or cannot be recorded.
    """
    failure: Exception | None = None
    modes: tuple[Literal["fake", "real"], ...] = ("fake", "real")
    for mode in modes:
        try:
            with untouched(model):
                return _recorded(model, inputs, mode, why)
        except Exception as error:
            if depends_on_data(error):
                raise branches(model, error) from error
            failure = error
    assert failure is not None
    raise RefusedError(
        f"The forward of this {type(model).__name__} cannot be followed: {cause(failure)}.",
        mend="Analyse a part of it that torch.export accepts.",
    ) from failure


def _recorded(model: Module, inputs: Arguments, mode: Literal["fake", "real"], why: str) -> Capture:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    names = first_names(model)
    tensors = {name: tensor for name, tensor in states(model) if names[name] == name}
    given = [tensor.detach().clone() for tensor in tensors_in(inputs)]

    def forward(parameters: list[Tensor], examples: list[Tensor]) -> list[Tensor]:
        replaced = dict(zip(tensors, parameters, strict=True))
        waiting = iter(examples)
        args, kwargs = map_tensors(lambda _: next(waiting), inputs)
        out = torch.func.functional_call(model, replaced, tuple(args), kwargs)
        return list(tensors_in(out))

    with _naming(model):
        module = make_fx(
            forward, tracing_mode=mode, pre_dispatch=True, _allow_non_fake_inputs=True
        )(list(tensors.values()), given)
    for node in module.graph.nodes:
        if "val" not in node.meta and "tensor_meta" in node.meta:
            node.meta["val"] = node.meta["tensor_meta"]
    flat = Inlined(module)
    holders = [node for node in flat.graph.nodes if node.op == "placeholder"]
    return Capture(
        flat.graph,
        dict(zip(holders, tensors, strict=False)),
        flat.attributes,
        tuple(holders[len(tensors) :]),
        flat.layers,
        (f"One run of the forward was recorded, because {why}.",),
    )


@contextlib.contextmanager
def _naming(model: Module) -> Iterator[None]:
    """Note at each operation the module whose forward does it."""
    from torch.fx import traceback
    from torch.nn.modules.module import (
        register_module_forward_hook,
        register_module_forward_pre_hook,
    )

    names = {id(module): name for name, module in model.named_modules()}
    stack: list[str] = []

    def tell() -> None:
        traceback.current_meta[LAYER] = {"": (f"{ROOT}.{stack[-1]}" if stack else ROOT, None)}

    def enter(module: Module, _: Any) -> None:
        stack.append(names.get(id(module), stack[-1] if stack else ""))
        tell()

    def leave(module: Module, _: Any, __: Any) -> None:
        stack.pop()
        tell()

    before = register_module_forward_pre_hook(enter)
    after = register_module_forward_hook(leave)
    try:
        with traceback.preserve_node_meta():
            yield
    finally:
        before.remove()
        after.remove()
