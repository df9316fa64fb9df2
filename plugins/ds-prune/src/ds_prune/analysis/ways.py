"""All that a forward does that branches on the values of its inputs or buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.nested import map_tensors
from ds_prune.analysis.exporting import exported
from ds_prune.analysis.graph import Arguments, Capture, ancestors
from ds_prune.analysis.questions import Answers, answering, objects
from ds_prune.analysis.refusal import branches
from ds_prune.analysis.undisturbed import untouched

if TYPE_CHECKING:
    from torch.nn import Module

LARGEST = 16
"""Ways through a forward that are followed."""


def all_ways(model: Module, inputs: Arguments, error: BaseException) -> tuple[Capture, ...]:
    """Follow a forward for every combination of answers to the conditions on which it branches.

    Answers that the forward itself objects to, by raising an error there, are left out.

    Args:
        model: In evaluation mode.
        inputs: By position and by name.
        error: Why it could not be followed without answers.

    Returns:
        First what the example inputs make it do.

    Raises:
        RefusedError: A condition depends on parameters, so that a smaller model may decide
            otherwise; there are too many ways; or one cannot be followed.
    """
    try:
        true = _computed(model, inputs, {})
    except Exception as problem:
        raise branches(model, error) from problem
    parameters = {name for name, _ in model.named_parameters()}
    found: list[Capture] = []
    waiting: list[tuple[Answers, int]] = [(true, 0)]
    while waiting:
        if len(found) == LARGEST:
            raise branches(model, error) from error
        answers, settled = waiting.pop()
        try:
            way = exported(model, inputs, answers)
            if found:
                _computed(model, inputs, way.answers)
        except Exception as problem:
            if found and objects(problem, list(answers)[-1]):
                continue
            raise branches(model, error) from problem
        if not found and not way.answers.keys() <= true.keys():
            raise branches(model, error) from error
        makers = {way.states.get(node) for node in ancestors(way.conditions)}
        if makers & parameters:
            raise branches(model, error) from error
        found.append(way)
        order = list(way.answers)
        for place, asked in enumerate(order):
            if place >= settled and asked in way.asked:
                before = {one: way.answers[one] for one in order[:place]}
                waiting.append(({**before, asked: not way.answers[asked]}, place + 1))
    return tuple(found)


def _computed(model: Module, inputs: Arguments, answers: Answers) -> Answers:
    """Run a forward with these answers, and the true ones besides; all that it was told."""
    import torch

    with untouched(model), torch.no_grad(), answering(answers) as heard:
        model(*clones(inputs[0]), **clones(inputs[1]))
    return heard.answers


def clones(value: Any) -> Any:
    """Inputs that a forward may write into."""
    return map_tensors(lambda tensor: tensor.detach().clone(), value)
