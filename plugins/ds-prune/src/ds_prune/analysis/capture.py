"""A model's forward as a graph, in one way or the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import RefusedError
from ds_prune.analysis.exporting import exported
from ds_prune.analysis.graph import Arguments, Capture
from ds_prune.analysis.recording import recorded
from ds_prune.analysis.refusal import depends_on_data
from ds_prune.analysis.undisturbed import evaluating, silent, untouched
from ds_prune.analysis.ways import all_ways, clones

if TYPE_CHECKING:
    from torch.nn import Module


def capture(model: Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Capture, ...]:
    """Follow a forward in evaluation mode, without computing it, and leave the model as it was.

    Returns:
        What the example inputs make it do, and what other values would.

    Raises:
        RefusedError: The forward does not accept the inputs, or what it does depends on the values
            of its data in a way that cannot be followed.
    """
    inputs = (tuple(args), dict(kwargs))
    with evaluating(model), silent():
        try:
            return (exported(model, inputs),)
        except Exception as error:
            first = error
        _try_out(model, inputs)
        if depends_on_data(first):
            return all_ways(model, inputs, first)
        return (recorded(model, inputs, f"torch.export cannot follow it ({_line(first)})"),)


def _line(error: BaseException) -> str:
    text = cause(error)
    return text if len(text) < 160 else f"{text[:157]}..."


def _try_out(model: Module, inputs: Arguments) -> None:
    import torch

    try:
        with untouched(model), torch.no_grad():
            model(*clones(inputs[0]), **clones(inputs[1]))
    except Exception as error:
        raise RefusedError(
            f"The example inputs do not fit this {type(model).__name__}: its forward raises "
            f"{_line(error)}.",
            mend="Give the inputs that a training step gives, as a tuple and a dict.",
        ) from error
