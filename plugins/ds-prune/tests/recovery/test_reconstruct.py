"""Layers make up for what they no longer get."""

import copy
import itertools

import numpy as np
import pytest
import torch
from ds_prune.choice import choose
from ds_prune.importance.magnitude import Magnitude
from ds_prune.recovery.batchnorm import recalibrate
from ds_prune.recovery.reconstruct import reconstruct
from ds_prune.target import Target
from handmade import convolutional, perceptron, residual, structure_of, without
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ds_core.demo import data, measure
from ds_core.errors import RefusedError


class Transposing(nn.Module):
    """A linear layer as GPT-2 has it, with the weight's inputs first."""

    def __init__(self, inputs, outputs, product):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))
        self.product = product

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        if self.product == "addmm":
            y = torch.addmm(self.bias, flat, self.weight)
        elif self.product == "@":
            y = flat @ self.weight
        else:
            y = torch.mm(flat, self.weight)
        return y.view(*x.shape[:-1], -1)


def attention(width):
    """Attention over one token, which gives the values out as they are."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, width)
            self.inner = nn.MultiheadAttention(width, 1, batch_first=True)

        def forward(self, x):
            x = self.first(x)
            return self.inner(x, x, x, need_weights=False)[0]

    return Attention()


PLAIN = {"padding": 1, "padding_mode": "circular"}
REDUNDANT = {
    "linear": (nn.Linear(5, 12), nn.Linear(12, 7), (6, 5)),
    "linear, tokens": (nn.Linear(5, 12), nn.Linear(12, 7), (2, 6, 5)),
    "linear without bias": (nn.Linear(5, 12, False), nn.Linear(12, 7, False), (6, 5)),
    "addmm": (nn.Linear(5, 12), Transposing(12, 7, "addmm"), (2, 6, 5)),
    "matmul": (nn.Linear(5, 12, False), Transposing(12, 7, "@"), (6, 5)),
    "mm": (nn.Linear(5, 12, False), Transposing(12, 7, "mm"), (6, 5)),
    "1x1": (nn.Conv2d(5, 12, 1), nn.Conv2d(12, 7, 1), (2, 5, 6, 6)),
    "1x1, stride 2": (nn.Conv2d(5, 12, 1), nn.Conv2d(12, 7, 1, 2, bias=False), (2, 5, 6, 6)),
    "3x3": (nn.Conv2d(5, 12, 1), nn.Conv2d(12, 7, 3), (4, 5, 8, 8)),
    "3x3, padding": (nn.Conv2d(5, 12, 1, bias=False), nn.Conv2d(12, 7, 3, padding=1), (4, 5, 8, 8)),
    "3x3, same": (
        nn.Conv2d(5, 12, 1, bias=False),
        nn.Conv2d(12, 7, 3, padding="same"),
        (4, 5, 8, 8),
    ),
    "3x3, circular": (nn.Conv2d(5, 12, 1), nn.Conv2d(12, 7, 3, **PLAIN), (4, 5, 8, 8)),
    "3x1, dilation": (nn.Conv2d(5, 12, 1), nn.Conv2d(12, 7, (3, 1), dilation=2), (4, 5, 8, 8)),
    "conv1d": (nn.Conv1d(5, 12, 1), nn.Conv1d(12, 7, 3, 2), (4, 5, 40)),
    "conv1d, padding": (
        nn.Conv1d(5, 12, 1, bias=False),
        nn.Conv1d(12, 7, 3, padding=2),
        (4, 5, 40),
    ),
    "conv1d, few rows": (nn.Conv1d(5, 12, 1), nn.Conv1d(12, 7, 3), (1, 5, 9)),
    "conv3d": (nn.Conv3d(5, 12, 1), nn.Conv3d(12, 7, 2), (2, 5, 4, 4, 4)),
    "transposed": (
        nn.ConvTranspose2d(5, 12, 1, bias=False),
        nn.ConvTranspose2d(12, 7, 3, 2),
        (2, 5, 6, 6),
    ),
}


def pair(first, second):
    """A model of two layers without anything between them, and its structure."""
    model = nn.Sequential(copy.deepcopy(first), copy.deepcopy(second))
    made = 1 if isinstance(first, nn.ConvTranspose2d) else 0
    used = 0 if isinstance(second, nn.ConvTranspose2d | Transposing) else 1
    links = {"0": [("0.weight", made, "produce"), ("1.weight", used, "consume")]}
    if first.bias is not None:
        links["0"].append(("0.bias", 0, "produce"))
    return model, links


def half(structure, count=12, seed=0):
    kept = np.random.default_rng(seed).permutation(count) >= count // 3
    return {group.name: kept for group in structure.groups}


def draws(shape, count=8):
    return [torch.randn(shape) for _ in range(count)]


@pytest.mark.parametrize("name", REDUNDANT)
def test_what_the_others_tell_is_made_up_for(name):
    """Twelve channels that are affine in five inputs: eight of them say all there is to say."""
    first, second, shape = REDUNDANT[name]
    model, links = pair(first, second)
    batches = draws(shape)
    structure = structure_of(model, links, batches[0])
    kept = half(structure)
    x = torch.randn(shape)
    before, cut = model(x), without(copy.deepcopy(model), structure, kept)(x)
    done = reconstruct(model, structure, kept, batches, ridge=1e-9)
    assert done.fitted == ["1.weight"]
    assert not done.left
    assert (cut - before).norm() > 0.05 * before.norm()
    assert (model(x) - before).norm() < 2e-3 * before.norm()
    again = without(copy.deepcopy(model), structure, kept)
    assert all(map(torch.equal, again.parameters(), model.parameters())), "it uses what goes"


def test_multihead_attention_is_a_layer_like_others():
    model = attention(12)
    batches = draws((6, 1, 5))
    used = [("inner.out_proj.weight", 1, "consume")]
    structure = structure_of(model, {"inner": used}, batches[0])
    kept = half(structure)
    x = torch.randn(6, 1, 5)
    before = model(x)
    done = reconstruct(model, structure, kept, batches, ridge=1e-9)
    assert done.fitted == ["inner.out_proj.weight"]
    assert (model(x) - before).norm() < 2e-3 * before.norm()
    assert torch.backends.mha.get_fastpath_enabled()


def test_channels_that_never_change_go_into_the_bias():
    model, structure, x = perceptron((6, 16, 4))
    with torch.no_grad():
        model[0].weight[:4] = 0
        model[0].bias[:4] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    before = model(x)
    reconstruct(model, structure, {"0": np.arange(16) >= 4}, draws((5, 6)))
    torch.testing.assert_close(model(x), before)


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 8]))
@settings(max_examples=20, deadline=None)
def test_outputs_are_nearer_than_without_on_what_was_looked_at(seed, rounds):
    torch.manual_seed(seed)
    model, structure, _ = perceptron()
    rng = np.random.default_rng(seed)
    kept = {g.name: rng.permutation(g.count) >= g.count // 3 for g in structure.groups}
    batches = draws((32, 6), 4)
    x = torch.cat(batches)
    before = model(x)
    cut = without(copy.deepcopy(model), structure, kept)(x)
    done = reconstruct(model, structure, kept, batches, rounds=rounds)
    assert done.fitted == ["2.weight", "4.weight"]
    if rounds > 1:  # otherwise layers do not know of each other
        assert (model(x) - before).norm() < (cut - before).norm()


@pytest.mark.parametrize("made", [perceptron, convolutional, residual])
def test_undo_brings_back_every_bit(made):
    model, structure, x = made()
    model.train()
    state = copy.deepcopy(model.state_dict())
    kept = {g.name: np.arange(g.count) >= g.count // 3 for g in structure.groups}
    done = reconstruct(model, structure, kept, [x, x + 1])
    assert model.training
    assert not all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    done.undo()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("good", [0, 1, 3, 6, 8])
def test_an_error_leaves_the_model_as_it_was(good):
    model, structure, x = perceptron()
    state = copy.deepcopy(model.state_dict())
    kept = {"0": np.arange(16) >= 4, "2": np.arange(12) >= 4}
    calls = itertools.count()

    def call(model, batch):
        return model(batch if next(calls) < good else batch[:, :2])

    with pytest.raises(RuntimeError):
        reconstruct(model, structure, kept, [x, x + 1], call=call)
    assert next(calls) == good + 1
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert model.training


def test_no_batches_are_refused():
    model, structure, _ = perceptron()
    with pytest.raises(RefusedError, match="no batches"):
        reconstruct(model, structure, {"0": np.arange(16) >= 4}, [])


def test_a_convolution_finds_at_another_pixel_what_it_lost():
    """The second channel is the first one, a pixel further left."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, (1, 3), padding=(0, 1), bias=False),
        nn.Conv2d(2, 1, (1, 3), padding=(0, 1), bias=False),
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[0.0, 1, 0]]], [[[0.0, 0, 1]]]]))
        model[1].weight.copy_(torch.tensor([[[[0.0, 0, 0]], [[0.0, 1, 0]]]]))
    links = {"0": [("0.weight", 0, "produce"), ("1.weight", 1, "consume")]}
    batches = draws((4, 1, 5, 8))
    structure = structure_of(model, links, batches[0])
    x = torch.randn(4, 1, 5, 8)
    before = model(x)
    reconstruct(model, structure, {"0": np.array([True, False])}, batches, ridge=1e-9)
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)
    assert (model[1].weight[:, 1] == 0).all()


def test_what_cannot_be_fitted_is_cut_and_said():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    x = torch.randn(2, 3, 6, 6)
    index = np.arange(8).reshape(2, 4).T
    links = {
        "0": [
            ("0.weight", 0, "produce", index),
            ("0.bias", 0, "produce", index),
            ("1.weight", 1, "consume", np.arange(4).reshape(-1, 1)),
        ]
    }
    structure = structure_of(model, links, x)
    done = reconstruct(model, structure, {"0": np.arange(4) > 0}, [x])
    assert not done.fitted
    assert done.left == {"1.weight": "it is a convolution in groups"}
    assert (model[1].weight[:, 0] == 0).all()


def test_an_embedding_that_is_the_head_too_stays_an_embedding():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 12)

        def forward(self, tokens):
            return F.linear(self.embedding(tokens).relu(), self.embedding.weight)

    model, tokens = Tied(), torch.randint(9, (4, 6))
    weight = ("embedding.weight", 1)
    structure = structure_of(
        model, {"embedding": [(*weight, "produce"), (*weight, "consume")]}, tokens
    )
    before = model.embedding.weight.detach().clone()
    kept = half(structure)
    done = reconstruct(model, structure, kept, [tokens])
    assert done.left == {"embedding.weight": "it makes the channels that it uses, too"}
    assert torch.equal(model.embedding.weight[:, kept["embedding"]], before[:, kept["embedding"]])


def test_a_product_with_a_vector_is_cut_and_said():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.vector = nn.Linear(5, 12), nn.Parameter(torch.randn(12))

        def forward(self, x):
            return self.first(x) @ self.vector

    model, x = Sum(), torch.randn(4, 5)
    links = {"first": [("first.weight", 0, "produce"), ("vector", 0, "consume")]}
    structure = structure_of(model, links, x)
    kept = half(structure)
    assert set(reconstruct(model, structure, kept, [x]).left) == {"vector"}
    assert ((model.vector == 0).numpy() == ~kept["first"]).all()


def test_layers_that_no_batch_reaches_are_cut_and_said():
    model, structure, x = perceptron()
    kept = {"0": np.arange(16) >= 4}
    done = reconstruct(model, structure, kept, [x], call=lambda model, batch: model[0](batch))
    assert set(done.left) == {"2.weight"}
    assert (model[2].weight[:, :4] == 0).all()


@pytest.mark.parametrize("x", [torch.zeros(5, 6), torch.full((5, 6), float("nan"))])
def test_batches_that_say_nothing_do_no_harm(x):
    model, structure, _ = perceptron((6, 16, 4))
    kept = {"0": np.arange(16) >= 4}
    cut = without(copy.deepcopy(model), structure, kept)
    reconstruct(model, structure, kept, [x])
    assert torch.isfinite(model[2].weight).all()
    assert torch.equal(model[2].weight, cut[2].weight)


def test_16_bit_weights_stay_16_bit():
    model, structure, _ = perceptron()
    model.to(torch.bfloat16)
    batches = [batch.to(torch.bfloat16) for batch in draws((32, 6))]
    x = torch.cat(batches)
    before = model(x)
    kept = {"0": np.arange(16) >= 5}
    cut = without(copy.deepcopy(model), structure, kept)(x)
    reconstruct(model, structure, kept, batches)
    assert model[2].weight.dtype == torch.bfloat16
    assert (model(x) - before).norm() < (cut - before).norm()


def test_a_trained_net_is_as_good_as_before_after_a_third_went():
    """The demo's digits: without reconstruction the same cut leaves little."""
    torch.manual_seed(0)
    images = data.load(seed=0)
    scale = data.pixel_statistics(images.train)
    model, structure, _ = residual()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = data.Batches(images.train, 128, scale, generator=torch.Generator().manual_seed(0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5 * len(steps))
    for _ in range(5):
        for x, y in steps:
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

    def accuracy(model):
        return measure.accuracy(model, data.Batches(images.test, 256, scale))

    scores = Magnitude().scores(dict(model.named_parameters()), structure)
    kept = choose(structure, scores, Target(ratio=0.3))
    batches = [x for x, _ in itertools.islice(steps, 8)]
    dense = accuracy(model)
    cut = without(copy.deepcopy(model), structure, kept)
    bare = accuracy(cut)
    recalibrate(cut, batches)
    normed = accuracy(cut)
    at_once = copy.deepcopy(model)
    reconstruct(at_once, structure, kept, batches, rounds=1)
    with torch.no_grad():
        right = model.eval()(batches[0])
        done = reconstruct(model, structure, kept, batches)
        errors = [(net.eval()(batches[0]) - right).norm() for net in (model, at_once, cut)]
    assert errors[0] < 0.8 * errors[1] < 0.8 * errors[2]
    assert not done.left
    assert dense > 0.97
    assert bare < normed < accuracy(model)
    assert accuracy(model) > dense - 0.02
