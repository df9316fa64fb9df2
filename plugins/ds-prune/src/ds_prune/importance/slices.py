"""Numbers for each index of a tensor's dimension, and from them for each atom of a group."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Group, Member, Role, Structure


def sum_over_others(values: Tensor, dim: int) -> Tensor:
    """`[size of dim]`: sums over all dimensions but one, in float32 at least."""
    import torch

    wide = torch.promote_types(values.dtype, torch.float32)
    if values.is_contiguous():
        # In two steps, each along one direction of memory, it takes a third of the time.
        size = values.shape[dim]
        before = math.prod(values.shape[:dim])
        rows = values.reshape(before, -1).sum(0, dtype=wide)
        return rows.view(size, -1).sum(1)
    others = [other for other in range(values.dim()) if other != dim]
    return values.sum(others, dtype=wide) if others else values.to(wide)


def weight_members(
    group: Group, tensors: Mapping[str, Tensor], roles: tuple[Role, ...]
) -> list[Member]:
    """Those in these roles of tensors with two dimensions or more, which are weights."""
    return [
        member
        for member in group.members
        if member.role in roles and member.tensor in tensors and tensors[member.tensor].dim() > 1
    ]


def in_units_of_mean(values: Tensor) -> Tensor:
    """Divided by their mean, which makes those of different groups comparable; zeros stay."""
    mean = values.mean()
    return values / mean.where(mean > 0, 1)


def on_host(
    structure: Structure, score: Callable[[Group], Tensor | None]
) -> dict[str, NDArray[np.float64]]:
    """The scores of all groups that have some, which wait for the device once."""
    import torch

    with torch.no_grad():
        found = {group.name: score(group) for group in structure.groups}
    names = [name for name, values in found.items() if values is not None]
    if not names:
        return {}
    made = [values.double().cpu() for values in found.values() if values is not None]
    return {name: values.numpy() for name, values in zip(names, made, strict=True)}
