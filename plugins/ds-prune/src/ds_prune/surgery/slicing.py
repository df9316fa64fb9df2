"""Which indices of which tensors stay, and tensors with only these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_core.errors import RefusedError, nearest
from ds_prune.structure import Kept, Structure, members_by_tensor

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ds_prune.surgery.record import Dims


def named_tensors(model: Module) -> dict[str, Tensor]:
    """Every parameter and buffer by its first name, in the model's order."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def under_all_names(model: Module, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, which are by first names, also under the other names of shared tensors."""
    firsts = {tensor: name for name, tensor in named_tensors(model).items()}
    everywhere = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {name: values[firsts[tensor]] for name, tensor in everywhere if firsts[tensor] in values}


def checked(structure: Structure, kept: Kept) -> dict[str, Any]:
    """`kept` without groups that stay whole.

    Raises:
        RefusedError: A group is unknown, has another number of atoms, or would lose all of them.
    """
    counts = {group.name: group.count for group in structure.groups}
    losing = {}
    for name, mask in kept.items():
        if name not in counts:
            raise RefusedError(f"There is no group {name!r}.", mend=nearest(name, counts))
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (counts[name],):
            raise RefusedError(
                f"What is kept of group {name!r} must be {counts[name]} booleans, not {mask.dtype} "
                f"of shape {mask.shape}."
            )
        if not mask.any():
            raise RefusedError(f"Group {name!r} would lose all its atoms.", mend="Keep one.")
        if not mask.all():
            losing[name] = mask
    return losing


def kept_indices(model: Module, structure: Structure, kept: Kept) -> dict[str, Dims]:
    """For each tensor that loses something, what stays of its dimensions.

    Raises:
        RefusedError: The structure is of another model, or a dimension would lose everything.
    """
    tensors = named_tensors(model)
    found: dict[str, dict[int, Any]] = {}
    for (name, dim), belonging in members_by_tensor(structure.groups).items():
        losses = [
            member.index[~kept[group.name]].ravel()
            for group, member in belonging
            if group.name in kept
        ]
        if not losses:
            continue
        gone = np.unique(np.concatenate(losses))
        shape = tuple(tensors[name].shape) if name in tensors else ()
        if not gone.size:
            continue
        if dim >= len(shape) or gone[-1] >= shape[dim]:
            raise RefusedError(
                f"{name!r} is not as it was when the model was analysed.", mend="Analyse it anew."
            )
        left = np.delete(np.arange(shape[dim]), gone)
        if not left.size:
            raise RefusedError(f"Nothing would be left of dimension {dim} of {name!r}.")
        found.setdefault(name, {})[dim] = left
    return {name: found[name] for name in tensors if name in found}


def sliced(tensor: Tensor, kept: Dims) -> Tensor:
    """A copy of what is kept, in the memory format of the tensor."""
    import torch

    result = tensor.detach()
    for dim, index in kept.items():
        result = result.index_select(dim, torch.from_numpy(index).to(result.device))
    if tensor.layout != torch.strided:
        return result
    format = _memory_format(tensor)
    return torch.empty_like(result, memory_format=format).copy_(result)


def _memory_format(tensor: Tensor) -> Any:
    import torch

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    other = formats.get(tensor.dim())
    if other is not None:
        # By strides, as a kernel of one pixel is contiguous in either format.
        like = torch.empty(tensor.shape, device="meta", memory_format=other)
        if like.stride() == tensor.stride():
            return other
    return torch.contiguous_format


def check_memory(model: Module, names: Mapping[str, Any]) -> None:
    """No tensor that will be cut may share memory with another one, which would not follow.

    Raises:
        RefusedError: One does; names both.
    """
    places: dict[int, list[tuple[int, int, str]]] = {}
    for name, tensor in named_tensors(model).items():
        if tensor.numel() and not tensor.is_sparse and not tensor.is_meta:
            reach = sum((size - 1) * step for size, step in zip(*_layout(tensor), strict=True))
            start = tensor.data_ptr()
            end = start + (reach + 1) * tensor.element_size()
            places.setdefault(tensor.untyped_storage().data_ptr(), []).append((start, end, name))
    for spans in places.values():
        spans.sort()
        for position, (start, end, name) in enumerate(spans):
            for other_start, other_end, other in spans[position + 1 :]:
                overlap = other_start < end and start < other_end
                if overlap and (name in names or other in names):
                    one, two = (name, other) if name in names else (other, name)
                    raise RefusedError(
                        f"{one!r} and {two!r} share memory without being one parameter, so that "
                        "cutting one would part them.",
                        mend="Tie them by assigning the parameter itself.",
                    )


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(tensor.shape), tuple(tensor.stride())
