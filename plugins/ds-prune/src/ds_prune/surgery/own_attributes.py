"""Attributes of torch's own modules that say what shapes their weights have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.surgery.record import Dims, Value


def derived_attributes(module: Any, prefix: str, kept: Mapping[str, Dims]) -> dict[str, Value]:
    """What a module's attributes should be, now that its weights have been cut.

    Args:
        module: Any; one that torch does not define derives nothing.
        prefix: Its name in the model and a dot, or nothing.
        kept: What stays of tensors, by their names in the model.

    Groups of convolutions and normalisations are counted by the rows that stay: where each of the
    old groups keeps as many rows as each other, or none, those that keep none are gone.
    """
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    weight = _shape(module, "weight")
    rows = _rows(prefix, kept)
    if isinstance(module, nn.MultiheadAttention):
        return _of_attention(module, prefix, kept)
    if isinstance(module, _NormBase):
        count = weight or _shape(module, "running_mean")
        return {"num_features": count[0]} if count else {}
    if weight is None:
        return {}
    if isinstance(module, _ConvTransposeNd):
        groups = _groups_left(module.groups, module.in_channels, rows)
        return {"in_channels": weight[0], "out_channels": weight[1] * groups, "groups": groups}
    if isinstance(module, _ConvNd):
        groups = _groups_left(module.groups, module.out_channels, rows)
        return {"out_channels": weight[0], "in_channels": weight[1] * groups, "groups": groups}
    if isinstance(module, nn.GroupNorm):
        groups = _groups_left(module.num_groups, module.num_channels, rows)
        return {"num_channels": weight[0], "num_groups": groups}
    if isinstance(module, nn.Linear):
        return {"out_features": weight[0], "in_features": weight[1]}
    if isinstance(module, nn.Bilinear):
        return dict(zip(("out_features", "in1_features", "in2_features"), weight, strict=True))
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return {"num_embeddings": weight[0], "embedding_dim": weight[1]}
    if isinstance(module, nn.LayerNorm | torch.nn.RMSNorm):
        return {"normalized_shape": weight}
    if isinstance(module, nn.PReLU):
        return {"num_parameters": weight[0]}
    return {}


def loses_heads(module: Any, prefix: str, kept: Mapping[str, Dims]) -> bool:
    """Whether torch's own attention could not compute with its weights any more."""
    from torch import nn

    if type(module) is not nn.MultiheadAttention:
        return False
    derived = _of_attention(module, prefix, kept)
    heads, size = len(_heads_left(module, prefix, kept)), derived["embed_dim"]
    query = module.q_proj_weight if module.in_proj_weight is None else module.in_proj_weight
    fits = query.shape[1] == size == heads * module.head_dim
    return heads != module.num_heads or not fits


def follow_input(module: Any, shape: tuple[int, ...]) -> dict[str, Value]:
    """Attributes of a normalisation without weights, which only its input can tell."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    if any(True for _ in module.parameters(recurse=False)):
        return {}
    if isinstance(module, nn.GroupNorm):
        size = module.num_channels // module.num_groups
        if shape[1] % size:
            return {}
        return {"num_channels": shape[1], "num_groups": shape[1] // size}
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return {"normalized_shape": shape[-len(module.normalized_shape) :]}
    if isinstance(module, _NormBase) and module.running_mean is None:
        pixels = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}
        without_batch = any(
            isinstance(module, kind) and len(shape) == 1 + dims for kind, dims in pixels.items()
        )
        return {"num_features": shape[0 if without_batch else 1]}
    return {}


def _of_attention(module: Any, prefix: str, kept: Mapping[str, Dims]) -> dict[str, Value]:
    packed = module.in_proj_weight is not None
    key = module.in_proj_weight if packed else module.k_proj_weight
    value = module.in_proj_weight if packed else module.v_proj_weight
    heads = _heads_left(module, prefix, kept)
    found: dict[str, Value] = {
        "embed_dim": module.out_proj.weight.shape[0],
        "kdim": key.shape[1],
        "vdim": value.shape[1],
        "num_heads": len(heads),
    }
    if hasattr(module, "kept_heads"):
        found["kept_heads"] = tuple(module.kept_heads[head] for head in heads)
    return found


def _heads_left(module: Any, prefix: str, kept: Mapping[str, Dims]) -> list[int]:
    """Which of the heads it had keep their queries, in all their dimensions."""
    name = "q_proj_weight" if module.in_proj_weight is None else "in_proj_weight"
    rows = kept.get(prefix + name, {}).get(0)
    if rows is None:
        return list(range(module.num_heads))
    size = module.head_dim
    left = np.bincount(rows[rows < module.num_heads * size] // size, minlength=module.num_heads)
    if not np.isin(left, (0, size)).all():
        return list(range(module.num_heads))
    return [int(head) for head in np.flatnonzero(left)]


def _groups_left(groups: int, rows: int, left: NDArray[np.int64] | None) -> int:
    if left is None or groups == 1:
        return groups
    counts = np.bincount(left // (rows // groups), minlength=groups)
    remaining = counts[counts > 0]
    return len(remaining) if (remaining == remaining[0]).all() else groups


def _rows(prefix: str, kept: Mapping[str, Dims]) -> NDArray[np.int64] | None:
    """What stays of the weight's first dimension, also where another tensor makes the weight."""
    for name, dims in kept.items():
        rest = name.removeprefix(prefix) if name.startswith(prefix) else ""
        if 0 in dims and rest.startswith(("weight", "parametrizations.weight.")):
            rows: NDArray[np.int64] = dims[0]
            return rows
    return None


def _shape(module: Any, name: str) -> tuple[int, ...] | None:
    import torch

    tensor: Tensor | None = module._parameters.get(name, module._buffers.get(name))
    if tensor is None and name in getattr(module, "parametrizations", {}):
        makers = [one for one in module.parametrizations[name].modules() if one.training]
        for one in makers:
            one.training = False  # some change their buffers otherwise
        try:
            with torch.no_grad():
                tensor = getattr(module, name)
        finally:
            for one in makers:
                one.training = True
    return None if tensor is None else tuple(tensor.shape)
