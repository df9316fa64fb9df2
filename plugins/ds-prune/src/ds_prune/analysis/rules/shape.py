"""Operations that give the same entries another shape or order of dimensions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.labels import Labels
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import NOWHERE, Value


@rule("permute")
def permute(flow: Flow, call: Call) -> Value:
    """Dimensions in another order."""
    value = call.value("self")
    return value.pick([dim % value.rank for dim in call["dims"]], call.shape)


@rule("transpose", "swapaxes", "swapdims")
def transpose(flow: Flow, call: Call) -> Value:
    """Two dimensions change places."""
    value = call.value("self")
    dims = list(range(value.rank))
    first, second = (
        call[name] % value.rank
        for name in call.arguments
        if name in ("dim0", "dim1", "axis0", "axis1")
    )
    dims[first], dims[second] = dims[second], dims[first]
    return value.pick(dims, call.shape)


@rule("t", "numpy_T", "mT", "matrix_H", "adjoint")
def turned(flow: Flow, call: Call) -> Value:
    """All dimensions in reverse order, or the last two."""
    value = call.value("self")
    dims = list(range(value.rank))
    dims = dims[::-1] if call.name in ("t", "numpy_T") else dims[:-2] + dims[-1:-3:-1]
    return value.pick(dims, call.shape)


@rule("movedim", "moveaxis")
def movedim(flow: Flow, call: Call) -> Value:
    """Some dimensions go to other places; the others keep their order."""
    value = call.value("self")
    given = [call[name] for name in list(call.arguments)[1:3]]
    source, target = ([one] if isinstance(one, int) else list(one) for one in given)
    dims: list[int | None] = [None] * value.rank
    for one, other in zip(source, target, strict=True):
        dims[other % value.rank] = one % value.rank
    taken = {dim for dim in dims if dim is not None}
    rest = iter(dim for dim in range(value.rank) if dim not in taken)
    return value.pick([next(rest) if dim is None else dim for dim in dims], call.shape)


@rule("unsqueeze")
def unsqueeze(flow: Flow, call: Call) -> Value:
    """A new dimension of size 1."""
    value = call.value("self")
    dims: list[int | None] = list(range(value.rank))
    dims.insert(call["dim"] % (value.rank + 1), None)
    return value.pick(dims, call.shape)


@rule("squeeze")
def squeeze(flow: Flow, call: Call) -> Value:
    """Dimensions of size 1 are dropped."""
    value = call.value("self")
    among: Any = call.get("dim", list(range(value.rank)))
    among = {dim % value.rank for dim in ([among] if isinstance(among, int) else among)}
    dims = [dim for dim in range(value.rank) if dim not in among or value.shape[dim] != 1]
    return value.pick(dims, call.shape)


@rule("expand", "expand_as", "broadcast_to", "_expand")
def expand(flow: Flow, call: Call) -> Value:
    """Repeats along dimensions of size 1, at any length."""
    value, shape = call.value("self"), call.shape
    new = len(shape) - value.rank
    dims = [
        None if dim < new or value.shape[dim - new] != shape[dim] else dim - new
        for dim in range(len(shape))
    ]
    wide = value.pick(dims, shape)
    origins = [NOWHERE] * new + list(value.origins)
    return replace(wide, origins=tuple(origins))


@rule("repeat", "tile")
def repeat(flow: Flow, call: Call) -> Value:
    """The whole again and again along each dimension."""
    value, shape = call.value("self"), call.shape
    new = len(shape) - value.rank
    labels: list[Labels | None] = []
    uniform: list[bool] = []
    for dim, size in enumerate(shape):
        old = None if dim < new else value.labels[dim - new]
        length = 1 if dim < new else value.shape[dim - new]
        times = size // max(length, 1)
        labels.append(flow.merge((None, old), (times, length)) if times > 1 else old)
        uniform.append(length == 1 or value.uniform[dim - new])
    origins = (*([NOWHERE] * new), *value.origins)
    return replace(
        value, shape=shape, labels=tuple(labels), origins=origins, uniform=tuple(uniform)
    )


@rule("repeat_interleave")
def repeat_interleave(flow: Flow, call: Call) -> Value:
    """Each entry several times in a row along one dimension."""
    value: Value | None = call.get("self")
    if value is None or call.get("dim") is None or not isinstance(call.get("repeats"), int):
        flow.freeze_all(call.values, "it is repeated in a way that cannot be followed")
        return Value(call.shape, (None,) * len(call.shape))
    dim, times = call.axis(value), call["repeats"]
    labels = list(value.labels)
    if times > 1:
        labels[dim] = flow.merge((labels[dim], None), (value.shape[dim], times))
    return replace(value, shape=call.shape, labels=tuple(labels))


@rule("pixel_shuffle")
def pixel_shuffle(flow: Flow, call: Call) -> Value:
    """[..., c * r * r, h, w] to [..., c, h * r, w * r]."""
    value, area = call.value("self"), int(call["upscale_factor"]) ** 2
    flow.freeze(value, (-1, -2), "its pixels are spread")
    labels = value.labels[-3]
    if area > 1 and labels is not None:
        labels = _outer(flow, labels, area, "its channels become the pixels of another")
    return Value(call.shape, (*value.labels[:-3], labels, None, None))


@rule("pixel_unshuffle")
def pixel_unshuffle(flow: Flow, call: Call) -> Value:
    """[..., c, h * r, w * r] to [..., c * r * r, h, w]."""
    value, area = call.value("self"), int(call["downscale_factor"]) ** 2
    flow.freeze(value, (-1, -2), "its pixels are gathered")
    labels = value.labels[-3]
    if area > 1:
        labels = flow.merge((labels, None), (value.shape[-3], area))
    return Value(call.shape, (*value.labels[:-3], labels, None, None))


@rule("im2col")
def im2col(flow: Flow, call: Call) -> Value:
    """[n, c, h, w] to [n, c * window, places]."""
    value, window = call.value("self"), int(np.prod(call["kernel_size"]))
    flow.freeze(value, (-1, -2), "a window slides over it")
    labels = flow.merge((value.labels[-3], None), (value.shape[-3], window))
    return Value(call.shape, (*value.labels[:-3], labels, None))


@rule("col2im")
def col2im(flow: Flow, call: Call) -> Value:
    """[n, c * window, places] to [n, c, h, w]."""
    value, window = call.value("self"), int(np.prod(call["kernel_size"]))
    flow.freeze(value, [value.rank - 1], "it is folded to pixels")
    labels = value.labels[-2]
    if labels is not None:
        labels = _outer(flow, labels, window, "its channels become the pixels of another")
    return Value(call.shape, (*value.labels[:-2], labels, None, None))


@rule("unfold")
def unfold(flow: Flow, call: Call) -> Value:
    """Windows along one dimension, their entries along a new last one."""
    value = call.value("self")
    dim = call.axis(value, "dimension")
    flow.freeze(value, [dim], "a window slides over it")
    dims: list[int | None] = [None if one == dim else one for one in range(value.rank)]
    result = value.pick([*dims, None], call.shape)
    return replace(result, uniform=(False,) * result.rank)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(flow: Flow, call: Call) -> Value:
    """[n, g * c, ...] with g and c transposed."""
    value, groups = call.value("self"), int(call["groups"])
    inner = value.shape[1] // groups
    first, second = flow.split(value.labels[1], (groups, inner))
    labels = flow.merge((second, first), (inner, groups))
    return Value(call.shape, (value.labels[0], labels, *value.labels[2:]))


def _outer(flow: Flow, labels: Labels, inner: int, reason: str) -> Labels | None:
    """Labels of the outer axis where the inner one stays whole."""
    outer, rest = flow.split(labels, (len(labels) // inner, inner))
    if rest is not None:
        flow.classes.freeze(rest, reason)
    return outer
