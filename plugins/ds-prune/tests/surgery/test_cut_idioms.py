"""Analyses of models in many manners of writing, cut and proved."""

import copy

import numpy as np
import pytest
import torch
from ds_prune.analysis import Analysis
from ds_prune.surgery import prove, shrink
from idiom import fitting
from idioms import IDIOMS

from ds_core.nested import tensors_in

LITERAL = {"linear attention": {"q"}}
"""Groups that may stay, as the forward has their numbers of heads as literals."""


@pytest.mark.parametrize(
    "idiom", [one for one in IDIOMS if not one.refused], ids=lambda one: one.name
)
def test_what_is_found_can_be_cut_and_computes_the_reference(idiom):
    model, args, keywords = idiom.seeded(), idiom.inputs(), idiom.keywords()
    analysis = Analysis(model, args, keywords)
    rng, kept = np.random.default_rng(0), {}
    for group in analysis.structure.groups:
        mask = rng.random(group.count) < 0.6
        mask[:2] = rng.permutation([True, False])
        kept[group.name] = fitting(group, mask)
    whole = copy.deepcopy(model)
    before = analysis.reference({})
    references = {name: analysis.reference({name: mask}) for name, mask in kept.items()}
    outcome = shrink(model, analysis, kept, args, keywords)
    assert set(outcome.left) <= LITERAL.get(idiom.name, set())
    with torch.no_grad():
        got = model(*args, **keywords)
    expected = Analysis(whole, args, keywords).reference(outcome.kept)
    assert prove(got, expected).holds
    for name, mask in outcome.kept.items():
        assert not mask.all()
        assert not prove(references[name], before).holds
    assert len(list(tensors_in(got))) == len(expected)
    outcome.removal.undo()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[key])
