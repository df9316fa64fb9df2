"""Dimensions that are split, reordered and merged stay rectangles."""

import math

import numpy as np
import torch
from ds_prune.analysis import Analysis
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


class Reordered(nn.Module):
    """Channels as a grid, its axes reordered, some made tokens and the rest channels again."""

    def __init__(self, sizes, order, tokens):
        super().__init__()
        self.sizes, self.order, self.tokens = sizes, order, tokens
        self.first = nn.Linear(3, math.prod(sizes))
        self.second = nn.Linear(math.prod(sizes[axis] for axis in order[tokens:]), 2)

    def forward(self, x):
        x = self.first(x).unflatten(1, self.sizes)
        x = x.permute(0, *(axis + 1 for axis in self.order))
        return self.second(x.reshape(len(x), -1, self.second.in_features))


@st.composite
def reorderings(draw):
    sizes = draw(st.lists(st.integers(2, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(sizes))))
    return sizes, order, draw(st.integers(0, len(sizes) - 1))


@settings(max_examples=25, deadline=None)
@given(reorderings(), st.integers(0, 2**32 - 1))
def test_what_stays_is_a_rectangle(reordering, seed):
    sizes, order, tokens = reordering
    model = Reordered(*reordering).eval()
    analysis = Analysis(model, (torch.randn(2, 3),))
    (group,) = analysis.structure.groups
    assert group.count == max(sizes[axis] for axis in order[tokens:])

    rng = np.random.default_rng(seed)
    kept = rng.random(group.count) < 0.5
    kept[rng.integers(group.count)] = True
    stays = np.ones(math.prod(sizes), bool)
    rows = next(one for one in group.members if one.tensor == "first.weight")
    stays[rows.index[~kept].reshape(-1)] = False
    along = [
        stays.reshape(sizes).any(tuple(one for one in range(len(sizes)) if one != axis)).sum()
        for axis in range(len(sizes))
    ]
    assert math.prod(int(count) for count in along) == stays.sum()

    expected = analysis.reference({group.name: kept})[0]
    with torch.no_grad():
        gone = torch.from_numpy(~stays)
        model.first.weight[gone] = 3.0
        model.first.bias[gone] = -1.0
    torch.testing.assert_close(analysis.reference({group.name: kept})[0], expected)
