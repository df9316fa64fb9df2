"""Optimizer state in bfloat16 between steps."""

import copy

import pytest
import torch
from ds_dmp.lean.memory import LeanMemory
from ds_dmp.lean.noise import Noise
from ds_dmp.lean.optimizer_state import round_to_bfloat16
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import difference
from torch import nn

from ds_core.changes import Changes

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "adamw foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p),
}


def train(optimizer, model, memory, x, y, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if memory is not None:
            memory.before_step(optimizer)
        optimizer.step()
        if memory is not None:
            memory.after_step(optimizer)


def setting(make):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    return model, make(model.parameters()), torch.randn(16, 64), torch.randn(16, 64)


def state_of(optimizer):
    return [
        (name, value)
        for state in optimizer.state.values()
        for name, value in state.items()
        if isinstance(value, torch.Tensor) and value.numel() >= 4096
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_trains_as_before_and_is_given_back(name):
    model, optimizer, x, y = setting(OPTIMIZERS[name])
    other = copy.deepcopy(model)
    train(OPTIMIZERS[name](reference := list(other.parameters())), other, None, x, y, 0)
    plain = OPTIMIZERS[name](reference)
    train(plain, other, None, x, y, 8)

    changes = Changes()
    memory = LeanMemory(model, changes, plus=True)
    train(optimizer, model, memory, x, y, 8)
    held = state_of(optimizer)
    assert {value.dtype for _, value in held} <= {torch.bfloat16}
    figures = memory.report()["optimizer state"]
    assert figures["tensors"] == len(held)
    assert figures["now"] * 2 == figures["float32"] == sum(4 * v.numel() for _, v in held)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()])
    expected = torch.cat([p.detach().flatten() for p in other.parameters()])
    assert difference(moved, expected) < 0.02

    changes.undo()
    assert {value.dtype for _, value in state_of(optimizer)} <= {torch.float32}
    train(optimizer, model, None, x, y, 1)


def test_a_saved_state_resumes_bit_for_bit():
    model, optimizer, x, y = setting(OPTIMIZERS["adam"])
    memory = LeanMemory(model, Changes(), plus=True)
    train(optimizer, model, memory, x, y, 2)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), memory.state_dict()))
    train(optimizer, model, memory, x, y, 3)

    resumed, second, _, _ = setting(OPTIMIZERS["adam"])
    again = LeanMemory(resumed, Changes(), plus=True, seed=5)
    resumed.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    again.load_state_dict(saved[2])
    train(second, resumed, again, x, y, 3)
    for one, two in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    for (_, one), (_, two) in zip(state_of(optimizer), state_of(second), strict=True):
        assert torch.equal(one, two)


def test_without_plus_nothing_is_rounded():
    model, optimizer, x, y = setting(OPTIMIZERS["sgd"])
    memory = LeanMemory(model, Changes(), plus=False)
    train(optimizer, model, memory, x, y, 1)
    assert {value.dtype for _, value in state_of(optimizer)} == {torch.float32}


def test_state_of_bfloat16_parameters_stays_theirs():
    model = nn.Linear(64, 64).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    changes = Changes()
    memory = LeanMemory(model, changes, plus=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    memory.before_step(optimizer)
    optimizer.step()
    memory.after_step(optimizer)
    assert memory.report()["optimizer state"]["tensors"] == 0
    changes.undo()
    assert {value.dtype for _, value in state_of(optimizer)} == {torch.bfloat16}


NOISE = Noise(0)
any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_float, min_size=1, max_size=50))
def test_rounding_goes_to_a_neighbour_and_keeps_what_is_not_finite(numbers):
    values = torch.tensor(numbers, dtype=torch.float32)
    rounded = round_to_bfloat16(values, NOISE).float()
    assert torch.equal(rounded.isnan(), values.isnan())
    assert torch.equal(rounded.isinf(), values.isinf())
    finite = values.isfinite()
    values, rounded = values[finite], rounded[finite]
    # The bfloat16 below, in magnitude, and the one above.
    below = (values.view(torch.int32) & -(1 << 16)).view(torch.float32)
    above = (below.view(torch.int32) + (1 << 16)).view(torch.float32)
    exact = below == values
    assert ((rounded == below) | ((rounded == above) & ~exact)).all()


def test_every_nan_stays_nan():
    patterns = torch.tensor([0x7F800001, 0x7FFFFFFF, 0x7FC00000, -1], dtype=torch.int32)
    values = patterns.view(torch.float32).repeat(100)
    assert round_to_bfloat16(values, Noise(0)).isnan().all()


@pytest.mark.parametrize("layout", ["plain", "transposed", "channels last", "gapped"])
def test_rounding_is_unbiased_in_any_layout(layout):
    values = torch.randn(8, 4, 6, 5)
    if layout == "transposed":
        values = values.transpose(0, 2)
    elif layout == "channels last":
        values = values.to(memory_format=torch.channels_last)
    elif layout == "gapped":
        values = values[..., :3]
    noise, draws = Noise(0), 500
    mean = sum(round_to_bfloat16(values, noise).double() for _ in range(draws)) / draws
    step = values.abs() * 2.0**-7
    assert ((mean - values).abs() <= 5.5 * 0.5 * step / draws**0.5).all()
    assert (round_to_bfloat16(values, noise) - values).abs().le(step).all()
