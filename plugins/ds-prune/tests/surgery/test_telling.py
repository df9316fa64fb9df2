"""Weights that make mistakes visible."""

import copy

import numpy as np
import pytest
import torch
from cut_nets import Heads, Net, blocks, net
from ds_prune.structure import Group, Member, Structure
from ds_prune.surgery import prove, remove, shrink
from ds_prune.surgery.telling import telling_weights
from torch import nn


class Scaled(nn.Module):
    """A block behind a layer scale, beside what goes past it."""

    def __init__(self, scale):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
        self.gamma = nn.Parameter(torch.full((6,), scale))

    def forward(self, x):
        return x + self.gamma * self.down(self.up(x).tanh())


class Fresh(nn.Module):
    """Attention as language models initialise it."""

    def __init__(self):
        super().__init__()
        self.attention = Heads()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, x):
        return x + self.attention(x)


def bent(one, tensor, columns):
    """The same structure, but for the atoms of one tensor, which are taken for each other."""
    (group,) = one.structure.groups
    members = []
    for member in group.members:
        index = member.index.copy()
        if member.tensor == tensor:
            index[:, columns] = np.roll(index[:, columns], 1, 0)
        members.append(Member(member.tensor, member.dim, member.role, index))
    members = tuple(members)
    structure = Structure((Group(group.name, group.kind, members),), (), {}, ())
    wrong = Net(one.model, structure, one.args)
    wrong.reference = one.reference
    return wrong


def hidden():
    model = Scaled(1e-6)
    links = {"up": [("up.weight", 0, "produce"), ("up.bias", 0, "produce"),
                    ("down.weight", 1, "consume")]}  # fmt: skip
    one = net(model, torch.randn(3, 6), links)
    nn.init.constant_(model.gamma, 1e-6)
    return one, "up.weight", slice(None)


def even():
    index = blocks(4, 4, 3)
    links = {
        "qkv": [
            "head", ("attention.qkv.weight", 0, "produce", index),
            ("attention.qkv.bias", 0, "produce", index),
            ("attention.out.weight", 1, "consume", blocks(4, 4)),
        ]
    }  # fmt: skip
    one = net(Fresh(), torch.randn(2, 3, 16), links)
    nn.init.zeros_(one.model.attention.qkv.bias)
    return one, "attention.qkv.weight", slice(8)  # of queries and keys alone


@pytest.mark.parametrize("make", [hidden, even])
def test_mistakes_that_fresh_weights_hide_are_found(make):
    one, tensor, columns = make()
    (group,) = one.structure.groups
    kept = {group.name: np.arange(group.count) < group.count // 2}
    wrong = bent(one, tensor, columns)
    expected = one.reference(kept)
    removal = remove(one.model, wrong.structure, kept)
    assert prove(one.output(), expected).holds  # with the model's own weights
    removal.undo()
    assert shrink(one.model, wrong, kept, one.args).cut == ()
    assert shrink(one.model, one, kept, one.args).cut == (group.name,)


def test_own_weights_come_back_bit_for_bit():
    model = Scaled(0.0)
    model.up.bias.data.fill_(float("nan"))
    before = copy.deepcopy(model.state_dict())
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    generator = torch.get_rng_state()
    with telling_weights(model):
        assert model.gamma.min() >= 0.05
    assert [parameter.data_ptr() for parameter in model.parameters()] == pointers
    assert all(
        torch.equal(before[key].view(torch.int32), value.view(torch.int32))
        for key, value in model.state_dict().items()
    )
    assert torch.equal(torch.get_rng_state(), generator)


class Steep(nn.Module):
    """Small weights keep it finite in float16."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=1e-2)

    def forward(self, x):
        return (self.down(self.up(x)) * 1e5) ** 2 + x.square()


def test_where_other_weights_overflow_the_models_own_are_used():
    links = {"up": [("up.weight", 0, "produce"), ("up.bias", 0, "produce"),
                    ("down.weight", 1, "consume")]}  # fmt: skip
    one = net(Steep(), torch.rand(3, 6), links)
    for layer in (one.model.up, one.model.down):
        nn.init.zeros_(layer.bias)
    one.model.half()
    one.args = (one.args[0].half(),)
    with telling_weights(one.model):
        assert not one.output().isfinite().any()
    outcome = shrink(one.model, one, {"up": np.arange(8) < 5}, one.args)
    assert outcome.cut == ("up",)
