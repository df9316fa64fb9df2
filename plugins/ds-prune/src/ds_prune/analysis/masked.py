"""Statistics over the channels that stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def masked(target: Any, kept: Mapping[int, Tensor], /, *args: Any, **kwargs: Any) -> Any:
    """An operation on the kept indices of its first argument's dimensions.

    Normalisations give a tensor of the full shape with zeros elsewhere; statistics have no such
    dimension, or are of size 1 along it.

    Args:
        target: The operation of torch.
        kept: For dimensions of its first argument the indices that stay.
        args: Of the operation.
        kwargs: Of the operation.
    """
    schema = target._schema
    named = {known.name: value for known, value in zip(schema.arguments, args, strict=False)}
    named |= kwargs
    first = schema.arguments[0].name
    whole: Tensor = named[first]
    named[first] = _taken(whole, kept)
    name = schema.name.removeprefix("aten::")
    if name in ("layer_norm", "rms_norm"):
        lead = whole.dim() - len(named["normalized_shape"])
        named["normalized_shape"] = list(named[first].shape[lead:])
        inner = {dim - lead: indices for dim, indices in kept.items()}
        for parameter in ("weight", "bias"):
            if named.get(parameter) is not None:
                named[parameter] = _taken(named[parameter], inner)
    elif name == "group_norm":
        size = whole.shape[1] // named["num_groups"]
        if named["num_groups"] > 1:
            named["num_groups"] = named[first].shape[1] // size
        for parameter in ("weight", "bias"):
            if named.get(parameter) is not None:
                named[parameter] = _taken(named[parameter], {0: kept[1]})
    elif name not in ("batch_norm", "instance_norm"):
        return target(**named)
    result: Tensor = target(**named)
    for dim, indices in kept.items():
        shape = list(result.shape)
        shape[dim] = whole.shape[dim]
        result = result.new_zeros(shape).index_copy(dim, indices.to(result.device), result)
    return result


def _taken(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    for dim, indices in kept.items():
        tensor = tensor.index_select(dim, indices.to(tensor.device))
    return tensor
