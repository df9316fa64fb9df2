"""Statistics over dimensions, and operations that need all of a dimension at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value, free


def _dims(value: Value, given: Any) -> list[int]:
    if given is None or given == []:
        return list(range(value.rank))
    return [dim % max(value.rank, 1) for dim in ([given] if isinstance(given, int) else given)]


@rule(
    "amax",
    "amin",
    "linalg_vector_norm",
    "logsumexp",
    "mean",
    "norm",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
)
def statistics(flow: Flow, call: Call) -> Any:
    """Numbers that stand for a whole dimension."""
    value = call.values[0]
    dims = _dims(value, call.get("dim"))
    kept = bool(call.get("keepdim"))
    for dim in dims:
        flow.play(value, dim, "follow")
    carried = flow.statistic(call, value, dims) | value.statistics
    one = _reduced(value, dims, kept)
    one = replace(one, statistics=carried)
    return (one, replace(one)) if call.name in ("std_mean", "var_mean") else one


def _reduced(value: Value, dims: Sequence[int], kept: bool) -> Value:
    order = [None if dim in dims else dim for dim in range(value.rank)]
    shape = [1 if dim in dims else size for dim, size in enumerate(value.shape)]
    if not kept:
        rest = [dim for dim in order if dim is not None]
        return value.pick(rest, [value.shape[dim] for dim in rest])
    return value.pick(order, shape)


@rule("max", "min")
def extreme(flow: Flow, call: Call) -> Any:
    """The largest entry of all, of each along a dimension, or of two tensors."""
    values = call.values
    if len(values) == 2:
        return flow.elementwise(values, call.shape)
    if call.get("dim") is None:
        return statistics(flow, call)
    value, dim = values[0], call.axis(values[0])
    flow.freeze(value, [dim], "the largest is taken over it")
    one = _reduced(value, [dim], bool(call.get("keepdim")))
    return one, replace(one)


@rule(
    "_log_softmax",
    "_softmax",
    "cummax",
    "cumprod",
    "cumsum",
    "log_softmax",
    "logcumsumexp",
    "softmax",
)
def along(flow: Flow, call: Call) -> Any:
    """All along one dimension depends on all of it."""
    value = call.values[0]
    soft = "softmax" in call.name
    flow.freeze(
        value, [call.axis(value)], "softmax is taken over it" if soft else "it is summed along"
    )
    result = replace(value.activation(), statistics=value.statistics)
    return (result, replace(result)) if call.name == "cummax" else result


@rule("all", "any", "argmax", "argmin", "argsort", "kthvalue", "median", "mode", "sort", "topk")
def ranking(flow: Flow, call: Call) -> Any:
    """Order along one dimension."""
    value = call.values[0]
    dim = call.get("dim")
    ranked = _dims(value, dim)
    flow.freeze(value, ranked, "it is ranked")
    made = call.node.meta["val"]
    if not isinstance(made, (list, tuple)):
        made = (made,)
    results = []
    for fake in made:
        if len(fake.shape) == value.rank:
            shape = tuple(int(size) for size in fake.shape)
            labels = tuple(None if at in ranked else one for at, one in enumerate(value.labels))
            results.append(Value(shape, labels))
        elif dim is None:
            results.append(free(tuple(fake.shape)))
        else:
            results.append(_reduced(value.activation(), ranked, False))
    return tuple(results) if len(results) > 1 else results[0]


@rule("tril", "triu")
def triangle(flow: Flow, call: Call) -> Value:
    """Zeros on one side of a diagonal of the last two dimensions."""
    value = call.value("self")
    flow.freeze(value, (-1, -2), "a triangle of it is taken")
    return replace(value.activation(), statistics=value.statistics)


@rule("cosine_similarity")
def cosine(flow: Flow, call: Call) -> Value:
    """Of two tensors, along one dimension, of which all is needed."""
    values = call.values
    shape = max((value.shape for value in values), key=lambda one: len(one))
    dim = call.get("dim", 1) % len(shape)
    for value in values:
        flow.freeze(value, [dim - len(shape)], "it is summed over between two activations")
    joined = flow.elementwise(values, shape)
    return _reduced(joined.activation(), [dim], False)
