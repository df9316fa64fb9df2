"""Operations that take parts of tensors or put tensors together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ds_prune.analysis.call import Call, sizes
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.labels import Labels
from ds_prune.analysis.rules.elementwise import pointwise
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import NOWHERE, Value, free

APART = "it is taken apart by position"


@rule("cat", "concat", "concatenate")
def cat(flow: Flow, call: Call) -> Value:
    """Tensors one after another along a dimension; the others are united."""
    values = [value for value in call["tensors"] if value.shape != (0,)]
    dim = call.axis(values[0])
    rank = values[0].rank
    whole = any(value.labels[dim] is not None for value in values)
    labels = [
        flow.chain([v.labels[dim] for v in values], [v.shape[dim] for v in values])
        if place == dim and whole
        else None
        if place == dim
        else flow.meet([(value, place) for value in values])
        for place in range(rank)
    ]
    return _joined(flow, values, call.shape, labels)


@rule("hstack", "vstack")
def side_by_side(flow: Flow, call: Call) -> Value:
    """`cat` along dimension 1, or 0 for those of rank 1; and along dimension 0."""
    rank = call["tensors"][0].rank
    if rank < 2 and call.name == "vstack":
        raise ValueError("rows are made of vectors")
    dim = 1 if call.name == "hstack" and rank > 1 else 0
    return cat(flow, replace(call, arguments={**call.arguments, "dim": dim}))


@rule("stack")
def stack(flow: Flow, call: Call) -> Value:
    """Tensors along a new dimension."""
    values = call["tensors"]
    dim = call["dim"] % (values[0].rank + 1)
    labels = [flow.meet([(value, one) for value in values]) for one in range(values[0].rank)]
    labels.insert(dim, None)
    return _joined(flow, values, call.shape, labels)


def _joined(
    flow: Flow, values: Sequence[Value], shape: Sequence[int], labels: Sequence[Labels | None]
) -> Value:
    origins = (NOWHERE,) * len(shape)
    if all(value.is_weight for value in values):
        # Weights that are put together and then read are read in all of them.
        together = NOWHERE.union(*(one for value in values for one in value.origins))
        if len(shape) == values[0].rank:
            origins = tuple(
                NOWHERE.union(*(value.origins[dim] for value in values))
                for dim in range(len(shape))
            )
        else:
            origins = (together,) * len(shape)
    return Value(tuple(shape), tuple(labels), origins, statistics=flow.settle(values))


@rule("chunk", "tensor_split")
def chunk(flow: Flow, call: Call) -> tuple[Value, ...]:
    """Parts along a dimension, as many as said."""
    return _parts(flow, call)


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_chunk")
def split(flow: Flow, call: Call) -> tuple[Value, ...]:
    """Parts along a dimension, of sizes that are said."""
    return _parts(flow, call)


def _parts(flow: Flow, call: Call) -> tuple[Value, ...]:
    value = call.value("self")
    dim = call.axis(value, default=0)
    lengths = [sizes(fake)[dim] for fake in call.node.meta["val"]]
    labels = value.labels[dim]
    if labels is not None and value.is_weight and len(set(lengths)) > 1:
        # As torch's attention does with its projections; what is made of the parts tells how they
        # hang together.
        ends = np.cumsum(lengths).tolist()
        pieces: list[Labels | None] = [
            labels[end - length : end] for end, length in zip(ends, lengths, strict=True)
        ]
    else:
        pieces = even(flow, value, dim, lengths)
    return tuple(
        _part(value, dim, length, labels) for length, labels in zip(lengths, pieces, strict=True)
    )


def even(flow: Flow, value: Value, dim: int, lengths: Sequence[int]) -> list[Labels | None]:
    """Labels of parts: the same positions of all, which therefore stay equally long."""
    labels = value.labels[dim]
    if labels is None or len(lengths) == 1:  # tokens, perhaps as many as the data say
        return [labels] * len(lengths)
    if len(set(lengths)) > 1:
        flow.freeze(value, [dim], "it is split into unequal parts")
        return [None] * len(lengths)
    parts, positions = flow.split(labels, (len(lengths), lengths[0]))
    if parts is not None:
        flow.classes.freeze(parts, APART)
    return [positions] * len(lengths)


def _part(value: Value, dim: int, length: int, labels: Labels | None) -> Value:
    shape = (*value.shape[:dim], length, *value.shape[dim + 1 :])
    return replace(
        value, shape=shape, labels=(*value.labels[:dim], labels, *value.labels[dim + 1 :])
    )


@rule("glu")
def glu(flow: Flow, call: Call) -> Value:
    """One half times the sigmoid of the other."""
    value = call.value("self")
    dim = call.axis(value, default=-1)
    halves = even(flow, value, dim, [value.shape[dim] // 2] * 2)
    return _part(value.activation(), dim, value.shape[dim] // 2, halves[0])


@rule("unbind")
def unbind(flow: Flow, call: Call) -> tuple[Value, ...]:
    """All slices of length 1 along a dimension, without it."""
    value = call.value("self")
    dim = call.axis(value, default=0)
    one = _selected(flow, value, dim)
    return tuple(replace(one) for _ in range(value.shape[dim]))


@rule("select")
def select(flow: Flow, call: Call) -> Value:
    """One index of a dimension, without the dimension."""
    value = call.value("self")
    return _selected(flow, value, call.axis(value))


def _selected(flow: Flow, value: Value, dim: int) -> Value:
    flow.freeze(value, [dim], APART)
    dims = [one for one in range(value.rank) if one != dim]
    return value.pick(dims, [value.shape[one] for one in dims])


@rule("slice", "narrow")
def slices(flow: Flow, call: Call) -> Value:
    """A range of a dimension.

    If all ranges that are taken of this tensor make it up in equal parts they are like those of
    `chunk`.
    """
    value, shape = call.value("self"), call.shape
    dim = call.axis(value, default=0)
    if shape[dim] == value.shape[dim] or value.labels[dim] is None:
        return _part(value, dim, shape[dim], value.labels[dim])
    parts = _ranges(call, value, dim)
    if parts is None:
        flow.freeze(value, [dim], "a part of it is taken by position")
        return _part(value, dim, shape[dim], None)
    return _part(value, dim, shape[dim], even(flow, value, dim, [shape[dim]] * parts)[0])


def _ranges(call: Call, value: Value, dim: int) -> int | None:
    """In how many equal parts slices divide a dimension; None if they do not."""
    length = call.shape[dim]
    starts = set()
    whole: Any = call.node.args[0]
    for user in whole.users:
        if user.target is not call.node.target:
            continue
        given = [*user.args[1:], *([0, None, None, 1][len(user.args) - 1 :])]
        if given[0] % value.rank != dim:
            continue
        start = given[1] or 0
        start += value.shape[dim] if start < 0 else 0
        if user.meta["val"].shape[dim] == value.shape[dim]:
            continue
        if user.meta["val"].shape[dim] != length or (len(given) > 3 and given[3] != 1):
            return None
        starts.add(start)
    expected = set(range(0, value.shape[dim], length))
    return len(starts) if starts == expected and value.shape[dim] % length == 0 else None


@rule("gather")
def gather(flow: Flow, call: Call) -> Value:
    """Along one dimension, entries whose places a tensor of numbers says for each of the others."""
    value, index = call.value("self"), call.value("index")
    along = call.axis(value)
    flow.freeze(value, [along], APART)
    flow.freeze(index, [along], APART)
    labels: list[Labels | None] = []
    for dim in range(value.rank):
        if dim != along and value.shape[dim] != index.shape[dim]:
            flow.freeze(value, [dim], APART)
            flow.freeze(index, [dim], APART)
        apart = dim == along or value.shape[dim] != index.shape[dim]
        labels.append(None if apart else flow.meet([(value, dim), (index, dim)]))
    return Value(call.shape, tuple(labels))


@rule("index_select", "flip", "roll")
def reordered(flow: Flow, call: Call) -> Value:
    """Entries in another order along some dimensions, which stay whole if they have labels."""
    value = call.values[0]
    dims = call.get("dim", call.get("dims"))
    moved = [dims] if isinstance(dims, int) else list(dims or range(value.rank))
    flow.freeze(value, [dim % value.rank for dim in moved], APART)
    flow.freeze_all(call.values[1:], APART)
    at = {dim % value.rank for dim in moved}
    labels = [None if dim in at else one for dim, one in enumerate(value.labels)]
    return replace(value, shape=call.shape, labels=tuple(labels))


@rule("index")
def index(flow: Flow, call: Call) -> Value:
    """Rows found by tensors of numbers; dimensions that are not indexed pass."""
    value, indices = call.value("self"), list(call["indices"])
    indices += [None] * (value.rank - len(indices))
    given = [place for place, one in enumerate(indices) if one is not None]
    tensors = [indices[place] for place in given]
    flow.freeze_all(tensors, "it holds numbers of rows")
    flow.freeze(value, given, "its rows are looked up by number")
    if any(not _counts(call, place) for place in given):
        flow.freeze_all([value], "its entries are looked up by a mask")
        return free(call.shape)
    rest = [dim for dim in range(value.rank) if dim not in given]
    new = len(call.shape) - len(rest)
    in_a_row = given == list(range(given[0], given[-1] + 1))
    before = given[0] if in_a_row else 0
    dims: list[int | None] = [*rest[:before], *([None] * new), *rest[before:]]
    result = value.pick(dims, call.shape)
    return replace(result, uniform=(False,) * result.rank)


def _counts(call: Call, place: int) -> bool:
    """Whether an index is made of numbers; one of booleans takes several dimensions."""
    import torch

    indices: Any = call.node.args[1]
    dtype = indices[place].meta["val"].dtype
    return dtype not in (torch.bool, torch.uint8)


@rule("constant_pad_nd", "pad")
def pad(flow: Flow, call: Call) -> Value:
    """Entries before and after; along channels they are further ones, which stay."""
    value, widths = call.value("self"), [int(width) for width in call["pad"]]
    plain = call.name == "constant_pad_nd" or call.get("mode", "constant") == "constant"
    labels = list(value.labels)
    for place in range(0, len(widths), 2):
        dim = value.rank - 1 - place // 2
        before, after = widths[place : place + 2]
        if before == after == 0 or labels[dim] is None:
            continue
        if not plain or min(before, after) < 0:
            flow.freeze(value, [dim], "it is padded")
            labels[dim] = None
            continue
        labels[dim] = flow.chain([None, labels[dim], None], [before, value.shape[dim], after])
    return replace(value.activation(), shape=call.shape, labels=tuple(labels))


@rule("index_put", "slice_scatter", "select_scatter", "scatter", "scatter_add", "index_add")
def written(flow: Flow, call: Call) -> Value:
    """A tensor of which a part is overwritten: whole, unless it has no labels."""
    flow.freeze_all(call.values, "a part of it is written by position")
    return replace(pointwise(flow, replace(call, arguments={"self": call.value("self")})))
