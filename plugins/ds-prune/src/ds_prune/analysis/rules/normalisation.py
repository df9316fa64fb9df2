"""Normalisations: per channel, over groups of channels, over all channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import NORMALISED, Flow
from ds_prune.analysis.records import Statistic
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value


def _affine(flow: Flow, value: Value, dim: int, parameters: list[Value | None]) -> Value:
    """`value` with each parameter's dimension 0 tied to its dimension `dim`."""
    for parameter in parameters:
        if parameter is not None and parameter.rank == 1:
            flow.play(parameter, 0, "follow")
            flow.meet([(value, dim), (parameter, 0)])
    return value


@rule("batch_norm", "instance_norm")
def per_channel(flow: Flow, call: Call) -> Value:
    """Channels by themselves, along dimension 1.

    With statistics of its own it is also a way to standardise weights, which stay weights.
    """
    value = call.value("input")
    if call.get("training") or call.get("use_input_stats"):
        _over(flow, call, [dim for dim in range(value.rank) if dim != 1])
    names = ("weight", "bias", "running_mean", "running_var")
    _affine(flow, value, 1, [call.get(name) for name in names])
    return replace(value, statistics=frozenset())


def _over(flow: Flow, call: Call, dims: Iterable[int]) -> None:
    """Note that all of some dimensions are normalised together."""
    value = call.value("input")
    over = {dim: labels for dim in dims if (labels := value.labels[dim]) is not None}
    for labels in over.values():
        flow.classes.mark(labels, NORMALISED)
    if over:
        flow.statistics.append(Statistic(call.node, over))


@rule("group_norm")
def group_norm(flow: Flow, call: Call) -> Value:
    """Groups of channels by themselves: whole groups can go and leave the others as they are.

    A single group is all channels, any of which can go, to another result.
    """
    value = call.value("input")
    groups = int(call["num_groups"])
    flow.freeze(value, range(2, value.rank), "statistics are taken over it")
    labels, channels = value.labels[1], value.shape[1]
    if labels is not None and groups == 1:
        flow.classes.mark(labels, NORMALISED)
        flow.statistics.append(Statistic(call.node, {1: labels}))
    elif labels is not None and groups < channels:
        _, positions = flow.split(labels, (groups, channels // groups))
        assert positions is not None
        flow.classes.freeze(positions, "it is normalised together with others of its group")
        flow.statistics.append(Statistic(call.node, {1: labels}))
    elif labels is not None:
        flow.statistics.append(Statistic(call.node, {1: labels}))
    _affine(flow, value, 1, [call["weight"], call["bias"]])
    return replace(value.activation(), statistics=frozenset())


@rule("layer_norm", "rms_norm")
def over_channels(flow: Flow, call: Call) -> Value:
    """All of the last dimensions together."""
    value = call.value("input")
    count = len(call["normalized_shape"])
    dims = range(value.rank - count, value.rank)
    _over(flow, call, dims)
    for parameter in (call.get("weight"), call.get("bias")):
        if parameter is not None:
            for place, dim in enumerate(dims):
                flow.play(parameter, place, "follow")
                flow.meet([(value, dim), (parameter, place)])
    return replace(value.activation(), statistics=frozenset())


@rule("_weight_norm")
def weight_norm(flow: Flow, call: Call) -> Value:
    """A weight `v` scaled to norms `g` along one dimension; the others are normalised over."""
    direction, length, dim = call.value("v"), call.value("g"), int(call["dim"])
    dim %= direction.rank
    flow.freeze(
        direction,
        [one for one in range(direction.rank) if one != dim],
        "the norm of weights is taken over it",
    )
    result = flow.elementwise([direction, length], direction.shape)
    return replace(result, statistics=frozenset())
