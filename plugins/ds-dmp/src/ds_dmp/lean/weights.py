"""Finding parameters behind the 16-bit copies of them that autocast makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ds_dmp.lean.geometry import geometry_of, is_plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def parameter_behind(
    tensor: Tensor, frozen: Mapping[torch.Size, Sequence[Tensor]]
) -> Tensor | None:
    """The parameter of which `tensor` is a 16-bit copy, or a view of one.

    A copy's elements lie in memory in the order of the parameter's. Copies of parameters that train
    are known by their history; those of others have none, and are compared.

    Args:
        tensor: Saved in a forward.
        frozen: Parameters and buffers that do not train, by size.
    """
    import torch

    copy = tensor if tensor._base is None else tensor._base
    if tensor.dtype.itemsize != 2 or copy.dtype != tensor.dtype or copy._version != 0:
        return None
    if copy.grad_fn is not None:
        leaf = _leaf_behind(copy.grad_fn)
        return leaf if leaf is not None and _same_order(leaf, copy) else None
    for parameter in frozen.get(copy.shape, ()):
        if _same_order(parameter, copy) and torch.equal(parameter.to(copy), copy):
            return parameter
    return None


def _leaf_behind(node: Any) -> Tensor | None:
    if node.name() != "ToCopyBackward0":
        return None
    node = node.next_functions[0][0]
    # The core's loss scale has modules compute with aliases of their parameters.
    while node is not None and node.name() == "LossScaleGateBackward":
        node = node.next_functions[0][0]
    leaf: Tensor | None = getattr(node, "variable", None)
    return leaf


def _same_order(parameter: Tensor, copy: Tensor) -> bool:
    if not is_plain(parameter) or not is_plain(copy) or copy.storage_offset() != 0:
        return False
    geometry = geometry_of(parameter)
    return (
        geometry is not None
        and geometry.dense
        and geometry.distinct == geometry.size == tuple(copy.shape)
        and geometry.stride == copy.stride()
    )


def is_replicated(tensor: Tensor) -> bool:
    """Whether torch's DataParallel copied a parameter to another device."""
    return tensor.grad_fn is not None and tensor.grad_fn.name() == "BroadcastBackward"
