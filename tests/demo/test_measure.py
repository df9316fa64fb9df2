import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core.changes import Changes
from ds_core.demo import measure
from ds_core.demo.net import ResidualNet
from ds_core.errors import ConfigError, DsError


def autocast(model):
    """Have the model's forward run under bfloat16 autocast, by a swapped class."""
    base = type(model).forward

    def forward(self, *args):
        with torch.autocast("cpu", torch.bfloat16):
            return base(self, *args)

    Changes().set_methods(model, forward=forward)
    return model


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def test_parameters_are_counted_once_and_zeros_apart():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    assert measure.parameters(model) == (24, 24)
    with torch.no_grad():
        model[0].weight[0] = 0.0
    assert measure.parameters(model) == (24, 21)
    model[1].weight = model[0].weight
    assert measure.parameters(model) == (15, 12)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (nn.Linear(8, 16), (8,), 8 * 16),
        (mlp(), (8,), 8 * 16 + 16 * 4),
        (nn.Conv2d(3, 5, 3, padding=1), (3, 6, 7), 6 * 7 * 5 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), (4, 8, 8), 4 * 4 * 8 * 1 * 9),
        (nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()), (2, 8, 8), 0),
    ],
)
@pytest.mark.parametrize("prepare", [lambda model: model, autocast])
def test_multiply_adds_of_one_sample(model, shape, expected, prepare):
    assert measure.multiply_adds(prepare(model), torch.randn(5, *shape)) == expected


@given(st.integers(1, 9))
@settings(deadline=None)
def test_saved_bytes_of_a_perceptron(batch):
    # The rectified layer, which both the rectifier and the second product keep.
    assert measure.saved_bytes(mlp(), torch.randn(batch, 8)) == batch * 16 * 4


@given(st.integers(1, 9))
@settings(deadline=None)
def test_saved_bytes_under_autocast(batch):
    # The batch and the rectified layer as bfloat16, and the second weight's copy.
    expected = batch * 8 * 2 + batch * 16 * 2 + 16 * 4 * 2
    assert measure.saved_bytes(autocast(mlp()), torch.randn(batch, 8)) == expected


def test_saved_bytes_of_convolutions():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    area = 6 * 8 * 8
    normalised = area * 4 + 2 * 4  # its input, and each channel's mean and inverse deviation
    rectified = area * 4
    x = torch.randn(6, 1, 8, 8)
    assert measure.saved_bytes(model, x) == 4 * (normalised + rectified)


def test_what_is_packed_counts_as_what_it_became():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            hooks = torch.autograd.graph.saved_tensors_hooks(
                lambda tensor: tensor if tensor is x else tensor.half(),
                lambda tensor: tensor.float(),
            )
            with hooks:
                return self.inner(x)

    # The rectified layer for each of its two readers, and the second weight, all in 16 bit.
    assert measure.saved_bytes(Packed(), torch.randn(4, 8)) == 2 * (2 * 4 * 16 + 16 * 4)


def test_nothing_is_saved_where_nothing_learns():
    assert measure.saved_bytes(mlp().requires_grad_(False), torch.randn(4, 8)) == 0


def test_a_view_counts_as_the_storage_that_it_keeps():
    class Slice(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            doubled = x * 2
            return doubled[:, :2] * self.weight, doubled[:, 2:4] * self.weight

    assert measure.saved_bytes(Slice(), torch.randn(3, 8)) == 3 * 8 * 4


def test_bfloat16_halves_what_a_convolutional_net_saves():
    x = torch.randn(64, 1, 8, 8)
    full = measure.saved_bytes(ResidualNet(1, 10, [16, 32]), x)
    half = measure.saved_bytes(autocast(ResidualNet(1, 10, [16, 32])), x)
    assert 0.5 <= half / full < 0.56  # the weights' copies are over and above a half


def test_measuring_changes_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(ResidualNet(1, 3, [16]), nn.Dropout(0.5))
    model[1].eval()
    x = torch.randn(8, 1, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    measure.parameters(model)
    measure.multiply_adds(model, x)
    measure.saved_bytes(model, x)
    measure.accuracy(model, [(x, torch.zeros(8, dtype=torch.long))])
    assert [module.training for module in model] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_failing_forward_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(5, 2)).eval()
    with pytest.raises(RuntimeError):
        measure.saved_bytes(model, torch.randn(3, 4))
    assert not model.training
    assert not model[0].training
    assert int(model[0].num_batches_tracked) == 0


def test_accuracy_is_the_share_of_right_answers_over_all_batches():
    model = nn.Identity()
    scores = torch.eye(4)
    batches = [(scores[:3], torch.tensor([0, 1, 3])), (scores[3:], torch.tensor([3]))]
    assert measure.accuracy(model, batches) == 0.75
    assert measure.accuracy(autocast(nn.Identity()), batches) == 0.75


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(DsError, match="at least one sample"):
        measure.accuracy(nn.Identity(), [])


def test_calls_take_turns_and_each_round_starts_with_another():
    order = []
    timings = measure.interleaved(
        [lambda: order.append("a"), lambda: order.append("b")], repeats=3, warmup=1
    )
    assert "".join(order) in ("baabbaab", "abbaabba")
    assert len(timings) == 2


def test_times_are_seconds_in_order():
    slow, fast = measure.interleaved([lambda: time.sleep(0.003), lambda: None], repeats=5)
    for timing in (slow, fast):
        assert 0 <= timing.p10 <= timing.median <= timing.p90
    assert slow.p10 >= 0.003
    assert measure.timed(lambda: time.sleep(0.003), 1).median >= 0.003


def test_timing_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one repeat"):
        measure.timed(lambda: None, 0)
