"""Recurrent layers, which are not taken apart."""

from __future__ import annotations

from typing import Any

from ds_prune.analysis.call import Call, unlabelled
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.records import Product
from ds_prune.analysis.rules.registry import rule


@rule("gru", "lstm", "rnn_relu", "rnn_tanh")
def recurrent(flow: Flow, call: Call) -> Any:
    """A whole recurrent layer: frozen, and its work counted."""
    flow.freeze_all(call.values, "a recurrent layer is not taken apart")
    weights = [value for value in call["params"] if value.rank == 2]
    steps = call.values[0]
    repeats = 1
    for size in steps.shape[:-1]:
        repeats *= size
    each = sum(weight.shape[0] * weight.shape[1] for weight in weights)
    flow.products.append(Product(call.layer, call.name, repeats * each, ()))
    return unlabelled(call)
