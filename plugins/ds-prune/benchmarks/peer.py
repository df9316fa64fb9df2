"""Torch-Pruning, used as its documentation tells."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import click
import torch
from measuring import PEER
from torch import nn

from ds_core.nested import tensors_in

VERSION = "1.6.1"


def require() -> None:
    """End with one sentence where it is not installed."""
    if importlib.util.find_spec("torch_pruning") is None:
        click.echo(
            f"{PEER} is not installed, with which this compares: "
            f'pip install --no-deps "torch-pruning=={VERSION}", or give --no-peer.',
            err=True,
        )
        sys.exit(1)


def output_layers(model: nn.Module) -> list[nn.Module]:
    """The last linear layer, or the last convolution where there is none."""
    for kinds in (nn.Linear, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        found = [module for module in model.modules() if isinstance(module, kinds)]
        if found:
            return found[-1:]
    return []


def heads(model: nn.Module) -> dict[nn.Module, int]:
    """How many heads the projections of each attention have, as far as names tell."""
    found: dict[nn.Module, int] = {}
    names = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "q", "k", "v", "q_lin")
    for module in model.modules():
        count = getattr(module, "num_attention_heads", getattr(module, "num_heads", None))
        for name, child in module.named_children():
            if isinstance(count, int) and name in names and isinstance(child, nn.Linear):
                found[child] = count
    return found


def pruner(
    model: nn.Module,
    inputs: Any,
    ratio: float,
    *,
    global_pruning: bool = False,
    max_ratio: float = 1.0,
    steps: int = 1,
    attention: bool = False,
) -> Any:
    """Its high-level pruner by magnitude.

    Args:
        model: In evaluation mode.
        inputs: A tensor, a tuple, or a mapping of arguments by name.
        ratio: Share of channels that goes.
        global_pruning: Whether layers compete.
        max_ratio: Share of a layer's channels that may go at most.
        steps: Calls of `step` in which it reaches the ratio.
        attention: Tell it which layers make the heads of attention.
    """
    import torch_pruning

    warnings.simplefilter("ignore")
    forward = None
    if isinstance(inputs, Mapping):

        def forward(net: nn.Module, given: Any) -> Any:
            return list(tensors_in(net(**given)))

    elif isinstance(inputs, tuple):

        def forward(net: nn.Module, given: Any) -> Any:
            return list(tensors_in(net(*given)))

    return torch_pruning.pruner.MagnitudePruner(
        model,
        example_inputs=inputs,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        max_pruning_ratio=max_ratio,
        global_pruning=global_pruning,
        iterative_steps=steps,
        ignored_layers=output_layers(model),
        num_heads=heads(model) if attention else {},
        forward_fn=forward,
    )


def cut(model: nn.Module, inputs: Any, ratio: float, *, attention: bool = False) -> None:
    """Take out that share of every layer's channels."""
    with torch.enable_grad():
        pruner(model, inputs, ratio, attention=attention).step()
