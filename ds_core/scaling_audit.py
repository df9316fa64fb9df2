"""Does every gradient of a scaled forward cross the scale's boundary?

Loss scaling is exact where gradients enter a model by its outputs and leave it by its parameters
and inputs. A model can keep secret doors: a parameter used under another name, a reentrant
checkpoint that runs a backward of its own, an activation that a hook keeps for the loss. The
autograd graph of one forward shows them all.
"""

from __future__ import annotations

import gc
import types
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_core.nested import tensors_in
from ds_core.notices import warn

if TYPE_CHECKING:
    from torch.nn import Module

INSTEAD = (
    "Use precision 'bf16', or scale the loss yourself with ds_core.mixed_precision.GradScaler."
)


def inspect_forward(model: Module, output: Any) -> None:
    """Check one forward, given its outputs before they cross the boundary.

    Raises:
        RefusedError: Gradients would leave the model without being unscaled.
    """
    region = _region(model, output)
    held = _held_activations(region, output)
    if held:
        warn(
            f"After the forward of {type(model).__name__}, tensors made inside it are still held: "
            f"{', '.join(held)}. If the loss uses them, their gradients are not scaled for "
            f"float16 and vanish: return them from forward instead. {INSTEAD}"
        )


def check_opaque(model: Module, objects: list[Any], other_tensors: bool) -> None:
    """Say what is to be done about tensors that an output hides.

    Raises:
        RefusedError: All that the model returned is hidden.
    """
    for thing in objects:
        if not _reaches_gradient(thing):
            continue
        name = type(thing).__qualname__
        mend = "For a cache of keys and values, set use_cache=False in the model's config. "
        if not other_tensors:
            raise RefusedError(
                f"{type(model).__name__} returned an object of type {name}, in which gradients "
                "cannot be scaled for float16.",
                mend=f"Return tensors in tuples, lists, dicts or dataclasses. {INSTEAD}",
            )
        warn(
            f"Among the outputs of {type(model).__name__} is an object of type {name}. If the loss "
            f"uses tensors in it, their gradients are not scaled for float16. {mend}"
        )


def _reaches_gradient(thing: Any) -> bool:
    """Whether a tensor that takes part in autograd can be found in an object, three levels deep."""
    import torch

    level, seen = [thing], set[int]()
    for _ in range(4):
        below: list[Any] = []
        for item in level:
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, torch.Tensor):
                if item.requires_grad:
                    return True
            elif isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list | tuple | set):
                below += item
            elif not isinstance(item, type | torch.nn.Module | torch.dtype | torch.device):
                below += getattr(item, "__dict__", {}).values()
                slots = getattr(type(item), "__slots__", ())
                names = (slots,) if isinstance(slots, str) else slots
                below += [getattr(item, name) for name in names if hasattr(item, name)]
        level = below
    return False


def _region(model: Module, output: Any) -> set[Any]:
    """The autograd nodes between the model's outputs and its boundary."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    nodes: set[Any] = set()
    stack = [tensor.grad_fn for tensor in tensors_in(output) if tensor.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in nodes or "LossScaleGate" in node.name():
            continue
        nodes.add(node)
        if node.name() == "CheckpointFunctionBackward":
            raise RefusedError(
                "A reentrant activation checkpoint runs a backward of its own, which float16 loss "
                "scaling cannot follow.",
                mend="Pass use_reentrant=False to torch.utils.checkpoint.",
            )
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            name = names.get(leaf)
            what = (
                f"Parameter {name!r} is used under another name than its module's"
                if name
                else f"A tensor of shape {tuple(leaf.shape)} that is neither a parameter nor an "
                "input requires a gradient"
            )
            raise RefusedError(
                f"{what}, so its gradient would stay scaled for float16.", mend=INSTEAD
            )
        stack.extend(below for below, _ in node.next_functions if below is not None)
    return nodes


def _held_activations(region: set[Any], output: Any) -> list[str]:
    """Where Python still holds tensors made by `region`, apart from the outputs themselves."""
    import torch

    if not region:
        return []
    returned = {id(tensor) for tensor in tensors_in(output)}
    inside = [
        item
        for item in gc.get_objects()
        # type(), as isinstance would run the __class__ of any lazy proxy in the process
        if issubclass(type(item), torch.Tensor)
        and id(item) not in returned
        and item.grad_fn in region
    ]
    if not inside:
        return []
    wanted = {id(tensor) for tensor in inside}
    found: list[str] = []
    for holder in gc.get_referrers(*inside):
        if holder is inside or isinstance(holder, types.FrameType):
            continue
        items = holder.items() if isinstance(holder, dict) else enumerate(_items(holder))
        found += [
            f"{key!r} in a {type(holder).__name__} (shape {tuple(item.shape)})"
            for key, item in list(items)
            if id(item) in wanted
        ]
    return found[:5]


def _items(holder: Any) -> Any:
    return holder if isinstance(holder, list | tuple | set | frozenset) else ()
