"""Convolutions, also grouped, depthwise and transposed."""

from __future__ import annotations

import numpy as np

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import UNCUT, Flow
from ds_prune.analysis.labels import Labels
from ds_prune.analysis.records import Product
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value

POSITIONS = ""
"""Why dimensions of kernels are frozen: they are no channels, which goes without saying."""


@rule("conv1d", "conv2d", "conv3d", "convolution")
def convolution(flow: Flow, call: Call) -> Value:
    """Input [n, i, ...], weight [o, i / groups, ...], bias [o]."""
    if call.get("transposed"):
        return _convolved(flow, call, taken=0, made=1)
    return _convolved(flow, call, taken=1, made=0)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(flow: Flow, call: Call) -> Value:
    """Input [n, i, ...], weight [i, o / groups, ...], bias [o]."""
    return _convolved(flow, call, taken=0, made=1)


def _convolved(flow: Flow, call: Call, taken: int, made: int) -> Value:
    """Channels go from dimension `taken` of the weight to dimension `made`.

    With groups, either whole groups go, or the same positions within all groups; `Factor` says so
    for inputs and outputs alike and leaves the choice open. The weight's dimension 0 (of a
    transposed convolution: its inputs) has rows of all groups, the other those of one group. So the
    number of groups afterwards is the number of groups of which any row of dimension 0 is left.
    """
    value, weight = call.value("input"), call.value("weight")
    bias: Value | None = call["bias"]
    groups, channel = int(call["groups"]), value.rank - (weight.rank - 1)
    _freeze_positions(flow, value, weight, channel)
    if not weight.is_weight and weight.labelled:
        flow.freeze_all([value, weight], "its weights are computed")
    for dim in range(2, weight.rank):
        flow.play(weight, dim, "follow")
    if groups == 1:
        flow.meet([(value, channel), (weight, taken)], "sums over")
        flow.read(call, weight, taken)
        flow.play(weight, made, "produce")
        out = weight.labels[made]
    else:
        out = _grouped(flow, call, groups, value.labels[channel], value.shape[channel], taken)
    out_channels = call.shape[channel]
    if bias is not None:
        flow.play(bias, 0, "follow" if _is_depthwise(value, groups, channel) else "produce")
        entries = [(Value((out_channels,), (out,)), 0), (bias, 0)]
        out = flow.meet(entries)
    positions = value.shape if made == 1 else call.shape
    repeats = int(np.prod(positions[:channel])) * int(
        np.prod(positions[channel + 1 :]) * np.prod(weight.shape[2:])
    )
    over = [labels for labels in weight.labels[:2] if labels is not None]
    flow.products.append(Product(call.layer, call.name, repeats, tuple(over)))
    labels: list[Labels | None] = [None] * len(call.shape)
    labels[channel] = out
    labels[:channel] = value.labels[:channel]
    return Value(call.shape, tuple(labels))


def _freeze_positions(flow: Flow, value: Value, weight: Value, channel: int) -> None:
    flow.freeze(value, range(channel + 1, value.rank), "a convolution slides over it")
    flow.freeze(weight, range(2, weight.rank), POSITIONS)


def _is_depthwise(value: Value, groups: int, channel: int) -> bool:
    return groups == value.shape[channel]


def _grouped(
    flow: Flow, call: Call, groups: int, incoming: Labels | None, channels: int, taken: int
) -> Labels | None:
    """Labels of the outputs of a convolution with groups.

    Both inputs and outputs are [groups, channels of a group]. The weight has rows of all groups for
    dimension 0, which is the inputs' or the outputs', and those of one group for the other.
    """
    weight = call.value("weight")
    if incoming is None:
        flow.freeze(weight, range(2), f"it sums over {call.value('input').source or UNCUT}")
        return weight.labels[0] if taken == 1 else None
    inner = channels // groups
    per_group = weight.shape[0] // groups if taken == 1 else weight.shape[1]
    if weight.labels[0] is None:
        if inner == per_group == 1 and weight.uniform[0]:
            return incoming
        flow.classes.freeze(incoming, "its weights cannot be cut")
        return None
    of_inputs, positions_in = flow.split(incoming, (groups, inner))
    if taken == 1:
        of_outputs, positions_out = flow.split(weight.labels[0], (groups, per_group))
        out: Labels | None = weight.labels[0]
        _unite(flow, positions_in, weight.labels[1])
        if inner > 1:
            flow.read(call, weight, 1)
        flow.play(weight, 0, "follow" if inner == 1 else "produce")
    else:
        _unite(flow, incoming, weight.labels[0])
        of_outputs, positions_out = of_inputs, weight.labels[1]
        out = flow.merge((of_inputs, positions_out), (groups, per_group))
        if inner > 1:
            flow.read(call, weight, 0)
        else:
            flow.play(weight, 0, "follow")
        flow.play(weight, 1, "produce")
    _unite(flow, of_inputs, of_outputs)
    if inner == 1 and positions_out is not None:
        # The outputs of one input channel are no more than copies with other filters of it.
        flow.classes.freeze(positions_out, "a depthwise convolution makes several of each channel")
    return out


def _unite(flow: Flow, one: Labels | None, other: Labels | None) -> None:
    if one is not None and other is not None:
        flow.classes.unite(one, other)
