"""Folding batch normalisation: what may be folded, what must be left, and that nothing changes."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core import transform
from ds_core.builtin.fold_bn import FoldBatchNorm
from ds_core.errors import ConfigError, RefusedError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def trained(model):
    """Statistics and affine weights that are far from doing nothing."""
    for module in model.modules():
        if isinstance(module, NORMS):
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.2, 3.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


def folded(model, *inputs, **options):
    fold = FoldBatchNorm(**options)
    return transform(model, fold, inputs), fold.report()


def agree(model, made, *inputs):
    with torch.no_grad():
        torch.testing.assert_close(
            made(*inputs), copy.deepcopy(model).eval()(*inputs), rtol=1e-4, atol=1e-5
        )


class Reordered(nn.Module):
    """Defined in one order and called in another, under names that mislead."""

    def __init__(self):
        super().__init__()
        self.norm_of_the_first = nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, 4, 3, bias=False)
        self.first = nn.Conv2d(3, 5, 3)
        self.other = nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.norm_of_the_first(self.first(x)).relu()
        return self.other(self.second(x))


LAYERS = {
    "linear": (nn.Linear(6, 5), nn.BatchNorm1d(5), (4, 6)),
    "conv1d": (nn.Conv1d(6, 5, 3), nn.BatchNorm1d(5), (4, 6, 9)),
    "conv2d": (nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), (4, 6, 9, 9)),
    "conv3d": (nn.Conv3d(6, 5, 3), nn.BatchNorm3d(5), (4, 6, 5, 5, 5)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4), (4, 6, 9, 9)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), (4, 6, 9, 9)),
    "reflecting": (
        nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(5),
        (4, 6, 9, 9),
    ),
    "same": (nn.Conv2d(6, 5, 4, padding="same"), nn.BatchNorm2d(5), (4, 6, 9, 9)),
    "transposed": (nn.ConvTranspose2d(6, 5, 3, stride=2), nn.BatchNorm2d(5), (4, 6, 5, 5)),
    "no bias": (nn.Conv2d(6, 5, 3, bias=False), nn.BatchNorm2d(5), (4, 6, 9, 9)),
    "not affine": (nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False), (4, 6)),
    "not affine, no bias": (
        nn.Conv2d(6, 5, 3, bias=False),
        nn.BatchNorm2d(5, affine=False),
        (4, 6, 9, 9),
    ),
}


@pytest.mark.parametrize("case", LAYERS)
def test_each_kind_of_layer_is_folded(case):
    layer, norm, shape = LAYERS[case]
    model, inputs = trained(nn.Sequential(layer, norm, nn.ReLU())), torch.randn(shape)
    made, report = folded(model, inputs)
    assert report["folded"] == [["0", "1"]]
    assert report["left"] == {}
    assert isinstance(made[1], nn.Identity)
    assert not made.training
    agree(model, made, torch.randn(shape))


def test_pairs_follow_the_graph_and_not_names():
    model, inputs = trained(Reordered()), torch.randn(2, 3, 9, 9)
    made, report = folded(model, inputs)
    assert report["folded"] == [["first", "norm_of_the_first"], ["second", "other"]]
    agree(model, made, inputs)


def test_the_model_given_stays_as_it_is():
    model, inputs = trained(Reordered()), torch.randn(2, 3, 9, 9)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    made, _ = folded(model, inputs)
    assert made is not model
    assert model.training
    assert isinstance(model.other, nn.BatchNorm2d)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    assert not parameters & {parameter.data_ptr() for parameter in made.parameters()}


def test_the_result_is_an_ordinary_module():
    model, inputs = trained(Reordered()), torch.randn(2, 3, 9, 9)
    made, _ = folded(model, inputs)
    assert type(made) is Reordered
    assert made.first.weight.requires_grad
    assert made.first.bias.requires_grad
    again = copy.deepcopy(made)
    again.load_state_dict(made.state_dict())
    assert torch.equal(torch.export.export(again, (inputs,)).module()(inputs), made(inputs))


class Left(nn.Module):
    """One normalisation that cannot be folded; the sub-class says why in `reason`."""

    reason = ""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.prepare()

    def prepare(self):
        pass

    def forward(self, x):
        return self.norm(self.conv(x))


class First(Left):
    reason = "no convolution or linear layer is right before it"

    def forward(self, x):
        return self.conv(self.norm(x))


class Between(Left):
    reason = "no convolution or linear layer is right before it"

    def forward(self, x):
        return self.norm(self.conv(x).relu())


class Residual(Left):
    reason = "the output of 'conv' is used elsewhere too"

    def forward(self, x):
        x = self.conv(x)
        return x + self.norm(x)


class Twice(Left):
    reason = "the weight of 'conv' is used more than once"

    def forward(self, x):
        return self.norm(self.conv(self.conv(x)))


class TwiceNormalised(Left):
    reason = "it is used more than once"

    def forward(self, x):
        return self.norm(self.conv(self.norm(x)))


class TiedWeights(Left):
    reason = "the weight of 'conv' is used more than once"

    def prepare(self):
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.other(self.norm(self.conv(x)))


class NoStatistics(Left):
    reason = "it keeps no running statistics, so it depends on the batch"

    def prepare(self):
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)


class Skipped(Left):
    reason = "the example inputs do not reach it"

    def forward(self, x):
        return self.conv(x)


class Activated(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class Subclass(Left):
    reason = "Activated may do more than normalise"

    def prepare(self):
        self.norm = Activated(3)


class Doubled(nn.Conv2d):
    def forward(self, x):
        return super().forward(x)


class LayerSubclass(Left):
    reason = "the layer before it is called inside 'conv', not as a module"

    def prepare(self):
        self.conv = Doubled(3, 3, 3)


class Functional(Left):
    reason = "the layer before it is called inside 'the model', not as a module"

    def forward(self, x):
        return self.norm(nn.functional.conv2d(x, self.conv.weight))


class Hooked(Left):
    reason = "it or the layer before it has hooks"

    def prepare(self):
        self.conv.register_forward_hook(lambda module, args, output: None)


class Grouped(Left):
    reason = "'conv' is a transposed convolution in groups"

    def prepare(self):
        self.conv = nn.ConvTranspose2d(3, 3, 3, groups=3)


class Normed(Left):
    reason = "the layer before it is called inside 'conv', not as a module"

    def prepare(self):
        self.conv = nn.utils.parametrizations.weight_norm(self.conv)


class Sequence(Left):
    """BatchNorm1d over (batch, channels, length), where the linear layer's features are length."""

    reason = "the channels that it normalises are not the features of 'conv'"

    def prepare(self):
        self.conv = nn.Linear(9, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.conv(x[:, :, 0]))


@pytest.mark.parametrize("made", Left.__subclasses__(), ids=lambda made: made.__name__)
def test_what_cannot_be_folded_is_left_with_its_reason(made):
    model, inputs = trained(made()), torch.randn(2, 3, 9, 9)
    kept, report = folded(model, inputs)
    assert report["folded"] == []
    assert set(report["left"].values()) == {made.reason}
    assert set(report["left"]) == {"norm"}
    assert isinstance(kept.norm, NORMS)
    agree(model, kept, inputs)


def test_a_functional_normalisation_is_left():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.register_buffer("mean", torch.randn(3))
            self.register_buffer("variance", torch.rand(3) + 0.5)

        def forward(self, x):
            return nn.functional.batch_norm(self.conv(x), self.mean, self.variance)

    inputs = torch.randn(2, 3, 9, 9)
    _, report = folded(Model(), inputs)
    assert report["folded"] == []
    assert report["left"] == {"": "Model may do more than normalise"}


def test_one_layer_under_two_names_is_folded_or_left_but_never_wrong():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.alias = self.conv
            self.norm = nn.BatchNorm2d(3)
            self.same = self.norm

        def forward(self, x):
            return self.same(self.alias(x))

    model, inputs = trained(Model()), torch.randn(2, 3, 9, 9)
    made, _ = folded(model, inputs)
    agree(model, made, inputs)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["conv", "depthwise", "norm", "relu"]), min_size=1, max_size=6),
    st.integers(0, 2**16),
)
def test_any_chain_computes_the_same_and_each_conv_absorbs_its_norm(kinds, seed):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 3, padding=1)]
    for kind in kinds:
        layers.append(
            {
                "conv": lambda: nn.Conv2d(4, 4, 3, padding=1, bias=False),
                "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
                "norm": lambda: nn.BatchNorm2d(4),
                "relu": nn.ReLU,
            }[kind]()
        )
    model, inputs = trained(nn.Sequential(*layers)), torch.randn(2, 3, 6, 6)
    made, report = folded(model, inputs, tolerance=1e-3)
    expected = [
        [str(index), str(index + 1)]
        for index, (layer, after) in enumerate(itertools.pairwise(layers))
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
    ]
    assert report["folded"] == expected
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert len(report["left"]) == norms - len(expected)
    with torch.no_grad():
        right = copy.deepcopy(model).eval()(inputs)
        assert (made(inputs) - right).norm() <= 1e-3 * right.norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tolerance_follows_the_dtype(dtype):
    model = trained(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))).to(dtype)
    made, report = folded(model, torch.randn(4, 6, dtype=dtype))
    assert report["folded"] == [["0", "1"]]
    assert report["error"] <= torch.finfo(dtype).eps ** 0.5
    assert made[0].weight.dtype == dtype


def test_outputs_that_differ_are_refused():
    model = trained(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)))
    with pytest.raises(RefusedError, match=r"off by .* 1e-12 is allowed"):
        folded(model, torch.randn(64, 6), tolerance=1e-12)
    model[1].running_var[0] = float("nan")
    with pytest.raises(RefusedError, match="finite"):
        folded(model, torch.randn(4, 6))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


def test_a_forward_that_cannot_be_exported_is_refused():
    with pytest.raises(RefusedError, match=r"torch\.export"):
        folded(Branching(), torch.ones(2, 3))


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Sequential(nn.Linear(3, 3))
    model.lines = (line for line in ())
    with pytest.raises(RefusedError, match="cannot copy"):
        folded(model, torch.ones(2, 3))


def test_a_graph_is_refused():
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(RefusedError, match="graph"):
        folded(graph, torch.ones(2, 3))


def test_options_are_checked():
    for tolerance in (0, -1, "much"):
        with pytest.raises(ConfigError, match="tolerance"):
            FoldBatchNorm(tolerance=tolerance)
