"""Operations that treat each entry by itself, and those that make tensors out of nothing."""

from __future__ import annotations

from dataclasses import replace

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value


@rule(
    "_to_copy",
    "_unsafe_view_copy",
    "alias",
    "alpha_dropout",
    "celu",
    "clone",
    "contiguous",
    "cpu",
    "cuda",
    "detach",
    "dropout",
    "elu",
    "feature_alpha_dropout",
    "feature_dropout",
    "float",
    "gelu",
    "half",
    "hardswish",
    "hardtanh",
    "lift_fresh_copy",
    "log_sigmoid",
    "logit",
    "mish",
    "nan_to_num",
    "native_dropout",
    "positive",
    "relu6",
    "rrelu",
    "selu",
    "silu",
    "softplus",
    "softshrink",
    "threshold",
    "to",
    "type_as",
)
def one_by_one(flow: Flow, call: Call) -> Value:
    """A function of one tensor; others among the arguments only say of which dtype."""
    value = call.values[0]
    return flow.elementwise([value], value.shape)


def pointwise(flow: Flow, call: Call) -> Value:
    """A function of several tensors, broadcast against each other."""
    return flow.elementwise(call.values, call.shape)


rule(
    "add",
    "sub",
    "mul",
    "div",
    "rsub",
    "where",
    "masked_fill",
    "copy",
    "fill",
    "lerp",
    "true_divide",
    "divide",
    "multiply",
    "subtract",
    "floor_divide",
    "clamp",
    "clip",
    "maximum",
    "minimum",
    "addcmul",
    "addcdiv",
)(pointwise)


@rule(
    "empty_like",
    "full_like",
    "new_empty",
    "new_full",
    "new_ones",
    "new_zeros",
    "ones_like",
    "zeros_like",
)
def uniform_like(flow: Flow, call: Call) -> Value:
    """As many equal numbers as another tensor has, or as are said: any size can be made."""
    return _uniform(call)


@rule("empty", "full", "ones", "scalar_tensor", "zeros")
def uniform(flow: Flow, call: Call) -> Value:
    """Equal numbers: any size can be made."""
    return _uniform(call)


def _uniform(call: Call) -> Value:
    shape = call.shape
    return Value(shape, (None,) * len(shape), uniform=(True,) * len(shape))


@rule("prelu")
def prelu(flow: Flow, call: Call) -> Value:
    """A slope for each channel, along dimension 1."""
    value, slope = call.value("self"), call.value("weight")
    if value.rank > 1 and slope.rank == 1 and slope.shape[0] > 1:
        flow.play(slope, 0, "follow")
        flow.meet([(value, 1), (slope, 0)])
    return replace(value.activation(), statistics=flow.settle([value]))
