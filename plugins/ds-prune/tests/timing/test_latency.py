"""Times of models that follow from times of layers, on a device whose clock is made up."""

import numpy as np
import pytest
import torch
from ds_prune.choice import choose
from ds_prune.target import Target
from ds_prune.timing.latency import measure_latency
from ds_prune.timing.rounding import suggest_round_to
from handmade import convolutional, perceptron, residual, structure_of
from torch import nn

from ds_core.builtin.cpu import Cpu
from ds_core.components import disk_cache

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def products(run):
    """Multiply-adds of a layer, of which the fixed part is 1000 and of the rest of a model 5000."""
    module, (x,), _ = run
    if not isinstance(module, LAYERS):
        return 5000 + sum(products(call) for call in calls(module, x))
    with torch.no_grad():
        y = module(x)
    rows, columns = module.weight.shape[:2]
    outputs = getattr(module, "out_features", None) or module.out_channels
    return 1000.0 + y.numel() // outputs * rows * columns


def calls(model, x):
    from ds_prune.timing.timer import Run

    found = []
    hooks = [
        module.register_forward_hook(lambda m, args, y: found.append(Run(m, args)))
        for module in model.modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def timer(runs):
    return [products(run) for run in runs]


@pytest.mark.parametrize("made", [perceptron, convolutional, residual])
def test_the_whole_model_takes_what_was_measured(made):
    model, structure, x = made()
    latency = measure_latency(Cpu(), model, structure, (x,), timer=timer)
    model.eval()
    assert latency({}) == pytest.approx(timer([(model, (x,), {})])[0])


def test_a_smaller_model_takes_what_its_layers_take():
    """For times that are linear in each width, between measured widths too."""
    model, structure, x = perceptron((6, 48, 24, 4))
    latency = measure_latency(Cpu(), model, structure, (x,), timer=timer)
    kept = {"0": np.arange(48) < 20, "2": np.arange(24) < 11}
    smaller, _, _ = perceptron((6, 20, 11, 4))
    layers = sum(timer(calls(smaller, x)))
    given = (20 + 11 + 4) / (48 + 24 + 4)
    assert latency(kept) == pytest.approx(layers + 5000 * given)


def test_layers_that_are_called_often_count_as_often():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.last(self.again(self.again(self.first(x)).relu()))

    model, x = Twice(), torch.randn(3, 4)
    links = {
        "first": [
            ("first.weight", 0, "produce"),
            ("again.weight", 0, "produce"),
            ("again.weight", 1, "consume"),
            ("last.weight", 1, "consume"),
        ]
    }
    structure = structure_of(model, links, x)
    latency = measure_latency(Cpu(), model, structure, (x,), timer=timer)
    assert latency({}) == pytest.approx(timer([(model, (x,), {})])[0])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 16])
def test_convolutions_in_groups_are_measured_at_widths_that_exist(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(nn.Conv2d(3, 16, 1), kind(16, 16, 3, groups=groups), nn.Conv2d(16, 4, 1))
    x = torch.randn(1, 3, 9, 9)
    each = 16 // groups if groups > 1 else 1  # whole groups go, or inputs one by one
    index = np.arange(16).reshape(-1, each)
    member = (1, "consume") if groups == 1 and not transposed else (0, "follow")
    links = {
        "0": [
            ("0.weight", 0, "produce", index),
            ("1.weight", *member, index),
            ("2.weight", 1, "consume", index),
        ]
    }
    if groups == 1:
        links["0"].pop()
    structure = structure_of(model, links, x)
    latency = measure_latency(Cpu(), model, structure, (x,), timer=timer)
    half = {"0": np.arange(len(index)) < len(index) // 2}
    inner = 16 if groups == 1 else 8
    middle = kind(8, inner, 3, groups=max(groups // 2, 1))
    smaller = nn.Sequential(nn.Conv2d(3, 8, 1), middle, nn.Conv2d(inner, 4, 1))
    shrinking = 2 if groups == 1 else 3  # layers; what others take belongs to the rest
    runs, others = calls(smaller, x)[:shrinking], calls(smaller, x)[shrinking:]
    given = sum(run.module(*run.args).numel() for run in runs)
    whole = sum(run.module(*run.args).numel() for run in calls(model, x)[:shrinking])
    rest = (5000 + sum(timer(others))) * given / whole
    assert latency(half) == pytest.approx(sum(timer(runs)) + rest)


def test_wider_layers_never_count_as_faster():
    model, structure, x = perceptron((6, 64, 64, 4))
    rng = np.random.default_rng(0)
    latency = measure_latency(
        Cpu(), model, structure, (x,), timer=lambda runs: rng.uniform(1, 2, len(runs)).tolist()
    )
    times = [latency({"0": np.arange(64) < width}) for width in range(1, 65)]
    assert times == sorted(times)


def test_a_target_in_time_is_reached():
    model, structure, x = residual()
    latency = measure_latency(Cpu(), model, structure, (x,), timer=timer)
    scores = {group.name: np.arange(1.0, group.count + 1) for group in structure.groups}
    kept = choose(structure, scores, Target(latency=0.6), latency=latency, round_to=4)
    assert 0.5 * latency({}) < latency(kept) <= 0.6 * latency({})


def test_measuring_on_a_real_device_leaves_the_model_alone_and_is_kept(monkeypatch):
    model, structure, x = convolutional()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    latency = measure_latency(Cpu(), model, structure, (x,))
    assert 0 < latency({"0": np.arange(12) < 2}) <= latency({})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    (file,) = disk_cache.folder().glob("prune-latency-*.json")
    text = file.read_text()
    measure_latency(Cpu(), model, structure, (x,))  # or other times would have been found
    assert file.read_text() == text
    file.write_text("{")
    measure_latency(Cpu(), model, structure, (x,))
    assert file.read_text() != "{"


@pytest.mark.parametrize("unit", [1, 4, 8, 32])
def test_the_multiple_is_that_below_which_outputs_take_longer(unit):
    def timer(runs):
        widths = [run.module.weight.shape[0] for run in runs]
        return [width * (1.0 if width % unit == 0 else 1.3) for width in widths]

    model, structure, x = perceptron((6, 200, 70, 4))
    assert suggest_round_to(Cpu(), model, structure, (x,), timer=timer) == unit


def test_steps_in_which_narrower_layers_gain_nothing_are_seen():
    def timer(runs):
        return [-(-run.module.weight.shape[0] // 64) * 64.0 for run in runs]

    model, structure, x = perceptron((6, 70, 4))
    assert suggest_round_to(Cpu(), model, structure, (x,), timer=timer) == 64


def test_small_layers_say_nothing_about_multiples():
    model, structure, x = perceptron()
    assert suggest_round_to(Cpu(), model, structure, (x,), timer=timer) == 1
