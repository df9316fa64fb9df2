"""How much less is saved, and how close gradients stay."""

import json

import pytest
import torch
from ds_dmp.lean.memory import LeanMemory
from nets import difference, encoder, gradients, images, lean, residual_net, sequences
from torch import nn

from ds_core.changes import Changes
from ds_core.errors import ConfigError
from ds_core.scaling import LossScale, scaled_forward

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "relu6 in place": lambda: nn.ReLU6(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.1),
    "leaky in place": lambda: nn.LeakyReLU(0.1, inplace=True),
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "silu in place": lambda: nn.SiLU(inplace=True),
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
NORMS = {
    "batch": lambda: nn.BatchNorm2d(16),
    "batch without weights": lambda: nn.BatchNorm2d(16, affine=False),
    "batch without running": lambda: nn.BatchNorm2d(16, track_running_stats=False),
    "group": lambda: nn.GroupNorm(4, 16),
    "layer": lambda: nn.LayerNorm([16, 16, 16]),
    "layer without bias": lambda: nn.LayerNorm([16, 16, 16], bias=False),
    "rms": lambda: nn.RMSNorm([16, 16, 16]),
}


def chain(norm, activation):
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), norm(), activation(), nn.Conv2d(16, 8, 3), nn.Flatten()
    )
    for parameter in net[1].parameters():
        nn.init.normal_(parameter, 1.0, 0.3)
    return net


def measured(model, x, y, **options):
    """The relative error of the gradient, and the report of the forward."""
    exact = gradients(model, x, y)
    with lean(model, **options) as memory:
        error = difference(gradients(model, x, y), exact)
        return error, memory.report()


def ratio(report):
    return report["totals"]["all"]["now"] / report["totals"]["all"]["float32"]


@pytest.mark.parametrize(
    ("options", "least", "most", "error"),
    [
        ({"pack": False, "recompute": False}, 1, 1, 0),
        ({"pack": False}, 0.7, 0.85, 1e-5),
        ({"recompute": False}, 0.255, 0.265, 0.01),
        ({}, 0.19, 0.23, 0.015),
        ({"plus": True, "recompute": False}, 0.13, 0.14, 0.1),
        ({"plus": True}, 0.09, 0.12, 0.15),
    ],
)
def test_a_residual_net(options, least, most, error):
    found, report = measured(residual_net(), *images(), **options)
    assert found <= error
    assert least <= ratio(report) <= most


@pytest.mark.parametrize(
    ("options", "most", "error"),
    [({"pack": False}, 0.75, 1e-4), ({}, 0.22, 0.02), ({"plus": True}, 0.13, 0.2)],
)
def test_a_transformer(options, most, error):
    found, report = measured(encoder(), *sequences(), **options)
    assert found <= error
    assert ratio(report) <= most


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_recomputing_alone_changes_no_gradient(activation):
    net = chain(NORMS["batch"], ACTIVATIONS[activation])
    error, report = measured(net, *images_flat(net), pack=False)
    assert error < 1e-6
    recomputed = report["totals"]["recomputed"]
    assert recomputed["before"] > 0
    # ReLU's family keeps a bit for each element of one tensor of 8 * 16 * 16 * 16.
    assert recomputed["now"] in (0, 4096)


def images_flat(net):
    x = images()[0]
    with torch.no_grad():
        return x, torch.randn_like(net(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("last", [False, True])
def test_every_norm_recomputes_as_in_its_forward(norm, training, last):
    net = chain(NORMS[norm], nn.ReLU).train(training)
    x, y = images_flat(net)
    if last:
        net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    error, report = measured(net, x, y, pack=False)
    assert error < 2e-6
    if not last:
        assert report["totals"]["recomputed"]["before"] > 0


def test_gradients_keep_their_expectation():
    net, (x, y) = residual_net(8), images()
    exact = gradients(net, x, y)
    with lean(net, plus=True, recompute=False):
        one = gradients(net, x, y)
        mean = sum(gradients(net, x, y) for _ in range(16)) / 16
    assert difference(mean, exact) < difference(one, exact) / 2


def test_relu_reads_the_exact_pattern():
    """Where only ReLU needs what was saved, its gradient is exact, even in two bits."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten())
    x, y = images_flat(net)
    for recompute in (True, False):
        error, report = measured(net, x, y, plus=True, recompute=recompute)
        assert report["totals"]["packed"]["tensors"] == 1
        assert error == 0


def test_a_tensor_that_two_save_is_stored_once():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.Flatten())
    _, report = measured(net, *images_flat(net))
    assert report["totals"]["packed"]["tensors"] == 1
    assert report["totals"]["packed"]["before"] == 8 * 16 * 14 * 14 * 4


def test_views_of_a_tensor_are_stored_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 64)

        def forward(self, x):
            hidden = self.first(x)
            return (
                self.second(hidden)
                + self.second(hidden.view(-1, 64)).view_as(hidden)
                + hidden.square()
            )

    net = Twice()
    _, report = measured(net, torch.randn(4, 32, 32), torch.randn(4, 32, 64))
    assert report["totals"]["packed"]["tensors"] == 1


def test_addresses_that_are_used_again_are_not_mixed_up():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8192))

        def forward(self, x):
            total = 0
            for index in range(20):
                # Freed at once where it is packed, so the next one lies where it lay.
                total = total + (self.weight * (x + index)).square().sum()
            return total.unsqueeze(0)

    net = Loop()
    error, _ = measured(net, torch.randn(8192), torch.zeros(1))
    assert error < 0.01


@pytest.mark.parametrize(
    "view",
    [
        lambda h: h,
        lambda h: h.to(memory_format=torch.channels_last),
        lambda h: h.transpose(1, 3),
        lambda h: h[:, 1:, ::2],
        lambda h: h[:, :1].expand(-1, 8, -1, -1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_comes_back_lies_as_it_lay(view, dtype):
    seen = []

    class Note(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.expected = x.shape, x.stride(), x.dtype, x.device, x.clone()
            return x.sum()

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            shape, stride, dtype, device, values = ctx.expected
            assert (x.shape, x.stride(), x.dtype, x.device) == (shape, stride, dtype, device)
            error = difference(x.float(), values.float())
            seen.append(error)
            return gradient.expand(shape)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return Note.apply(view((x * self.weight).to(dtype)))

    net = Net()
    with lean(net):
        net(torch.randn(8, 4, 32, 32)).backward()
    assert 0 < seen[0] < 0.02


def test_what_is_not_finite_comes_back_as_it_was():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8192))

        def forward(self, x):
            hidden = x * self.weight
            return (hidden * hidden).sum()

    net, x = Net(), torch.randn(8192)
    x[7], x[9] = float("inf"), float("nan")
    with lean(net):
        net(x).backward()
    expected = 2 * x * x
    assert torch.equal(net.weight.grad.isnan(), expected.isnan())
    assert torch.equal(net.weight.grad.isinf(), expected.isinf())
    assert torch.allclose(net.weight.grad, expected, equal_nan=True)


def test_what_is_not_to_be_packed_is_left_alone():
    """Small ones, float64, integers, inputs, parameters: gradients are the same to the bit."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(200, 64)
            self.linear = nn.Linear(64, 4)
            self.wide = nn.Parameter(torch.randn(8192, dtype=torch.float64))

        def forward(self, index, x, *, y):
            hidden = self.embedding(index)[:8]
            wide = (self.wide * x.double()).sin().square().sum()
            return self.linear(hidden).sum() + wide + (self.wide.float() * y).sum()

    net = Net()
    inputs = torch.randint(200, (5000,)), torch.randn(8192)

    def gradient():
        net.zero_grad()
        net(*inputs, y=inputs[1]).backward()
        return [p.grad.clone() for p in net.parameters()]

    expected = gradient()
    with lean(net) as memory:
        assert all(map(torch.equal, gradient(), expected))
        assert memory.report()["totals"]["packed"]["tensors"] == 0


def test_statistics_stay_exact():
    """Means and normalisers, one for thousands of rows, though they are many themselves."""
    net = nn.LayerNorm(32)
    x, y = torch.randn(5000, 32), torch.randn(5000, 32)
    whole = nn.Sequential(net)
    _, report = measured(whole, x, y)
    assert report["totals"]["packed"]["tensors"] == 0
    error, report = measured(nn.Sequential(nn.Linear(32, 32), net), x, y)
    assert report["totals"]["packed"]["tensors"] == 1
    assert report["totals"]["kept"]["now"] == 2 * 5000 * 4
    assert error < 0.01


# Casts of weights


def autocast(dtype):
    def around(call, args, kwargs):
        with torch.autocast("cpu", dtype):
            return call(*args, **kwargs).float()

    return around


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))


def mlp_gradient(net, *arounds, **options):
    with lean(net, *arounds, **options) as memory:
        torch.manual_seed(3)
        return gradients(net, torch.randn(4, 64), torch.randn(4, 64)), memory.report()


def test_weight_casts_are_made_again():
    net = mlp()
    expected, before = mlp_gradient(net, autocast(torch.bfloat16), recast=False)
    got, after = mlp_gradient(net, autocast(torch.bfloat16))
    assert torch.equal(got, expected)  # all activations are too small to be packed
    assert before["totals"]["weight casts"]["tensors"] == 0
    casts = after["totals"]["weight casts"]
    # Only the second layer's input needs a gradient, and with it the weight.
    assert (casts["tensors"], casts["before"], casts["float32"], casts["now"]) == (1, 8192, 0, 0)


def test_weight_casts_are_found_behind_the_loss_scale():
    net = mlp()
    scaled = scaled_forward(net, LossScale(), lambda output: None, lambda *opaque: None)

    def inside(call, args, kwargs):
        return scaled(call, args, kwargs)

    reports = []
    for recast in (True, False):
        changes = Changes()
        memory = LeanMemory(net, changes, plus=False, recast=recast)
        around = memory.around()

        def whole(call, args, kwargs, around=around):
            return inside(
                lambda *a, **k: around(lambda *b, **c: autocast(torch.bfloat16)(call, b, c), a, k),
                args,
                kwargs,
            )

        from ds_core.forward import Surrounding

        Surrounding(net, [whole], changes, keep=None)
        torch.manual_seed(3)
        reports.append((gradients(net, torch.randn(4, 64), torch.randn(4, 64)), memory.report()))
        changes.undo()
    assert torch.equal(reports[0][0], reports[1][0])
    assert reports[0][1]["totals"]["weight casts"]["tensors"] == 1


def test_casts_of_frozen_weights_are_made_again():
    net = mlp()
    net[2].requires_grad_(False)
    expected, _ = mlp_gradient(net, autocast(torch.bfloat16), recast=False)
    got, report = mlp_gradient(net, autocast(torch.bfloat16))
    assert torch.equal(got, expected)
    assert report["totals"]["weight casts"]["tensors"] == 1


@pytest.mark.parametrize("around", [[], [autocast(torch.bfloat16)]], ids=["float32", "autocast"])
def test_a_parameter_that_changed_before_backward_is_refused(around):
    net = mlp()
    with lean(net, *around):
        loss = net(torch.randn(4, 64)).sum()
        with torch.no_grad():
            net[2].weight.mul_(2)
        with pytest.raises(Exception, match="changed in place between"):
            loss.backward()


def test_activations_that_change_later_do_not_matter_where_they_were_packed():
    net = residual_net(activation=lambda: nn.ReLU(inplace=True))
    error, _ = measured(net, *images())
    assert error < 0.02


# Bits


def test_a_budget_holds_from_the_second_forward_on():
    net, (x, y) = residual_net(), images()
    with lean(net, budget=0.12) as memory:
        gradients(net, x, y)
        first = memory.report()
        gradients(net, x, y)
        report = memory.report()
    assert ratio(first) > 0.12
    assert ratio(report) <= 0.12
    assert report["feasible"]
    assert {row["bits"] for row in report["layers"]} <= {None, 2, 4, 8, 16}


def test_a_budget_in_bytes_and_gradients_decide():
    net, (x, y) = residual_net(), images()
    with lean(net) as memory:
        gradients(net, x, y)
        whole = memory.report()["totals"]["all"]["float32"]
    with lean(net, budget=whole // 8) as memory:
        gradients(net, x, y)
        names = [row["layer"] for row in memory.report()["layers"] if row["bits"]]
        chosen = {}
        for favourite in (names[0], names[-1]):
            memory.choose({name: 1e6 if name == favourite else 1e-6 for name in names})
            gradients(net, x, y)
            report = memory.report()
            assert report["totals"]["all"]["now"] <= whole // 8
            bits = {row["layer"]: row["bits"] for row in report["layers"] if row["bits"]}
            assert bits[favourite] == max(bits.values())
            chosen[favourite] = bits
    assert chosen[names[0]] != chosen[names[-1]]


def test_a_generous_budget_packs_nothing():
    net, (x, y) = residual_net(), images()
    exact = gradients(net, x, y)
    with lean(net, budget=1.0, recompute=False) as memory:
        gradients(net, x, y)
        gradients(net, x, y)  # the first one moved running statistics alone
        assert difference(gradients(net, x, y), exact) < 1e-6
        assert memory.report()["totals"]["packed"]["tensors"] == 0
        memory.choose({})
        gradients(net, x, y)
        assert memory.report()["totals"]["packed"]["tensors"] == 0


def test_an_impossible_budget_is_said_to_be_one(recwarn):
    net, (x, y) = residual_net(), images()
    with lean(net, budget=10) as memory:
        gradients(net, x, y)
        gradients(net, x, y)
        report = memory.report()
    assert report["feasible"] is False
    assert {row["bits"] for row in report["layers"] if row["bits"]} == {2}
    assert any("cannot be kept" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize("budget", [0, -1, 0.0, 1.5, True, "1 GB"])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ConfigError, match="memory budget"):
        LeanMemory(nn.Linear(2, 2), Changes(), plus=False, budget=budget)


# Figures and state


def test_figures_add_up_and_are_json():
    net, (x, y) = residual_net(), images()
    with lean(net) as memory:
        memory.measure()
        gradients(net, x, y)
        report = json.loads(json.dumps(memory.report()))
        gradients(net, x, y)
        assert memory.report()["totals"]["all"]["error"] is None
    totals = report["totals"]
    for key in ("tensors", "before", "float32", "now"):
        parts = sum(row[key] for name, row in totals.items() if name != "all")
        assert parts == totals["all"][key] == sum(row[key] for row in report["layers"])
    assert 0 < totals["packed"]["error"] < 0.02
    assert 0 < totals["recomputed"]["error"] < 0.03
    # What plain autograd saves: each convolution's result once, each ReLU's once, small ones.
    assert totals["all"]["float32"] >= 10 * 8 * 16 * 16 * 16 * 4
    assert {"0", "1", "3.conv1", "3.relu"} & {row["layer"] for row in report["layers"]}


def test_a_resumed_training_goes_on_bit_for_bit():
    net, (x, y) = residual_net(), images()
    with lean(net, plus=True, budget=0.15) as memory:
        gradients(net, x, y)
        state = memory.state_dict()
        weights = {key: value.clone() for key, value in net.state_dict().items()}
        expected = [gradients(net, x, y) for _ in range(2)]
    net.load_state_dict(weights)
    with lean(net, plus=True, budget=0.15, seed=8) as memory:
        memory.load_state_dict(state)
        got = [gradients(net, x, y) for _ in range(2)]
    assert all(map(torch.equal, got, expected))
    assert not torch.equal(*got)


def test_nothing_is_left_behind():
    net = encoder()
    before = {name: type(module) for name, module in net.named_modules()}
    with lean(net):
        gradients(net, *sequences())
    assert {name: type(module) for name, module in net.named_modules()} == before
    assert all("forward" not in vars(module) for module in net.modules())
