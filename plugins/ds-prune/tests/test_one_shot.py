"""A model pruned in one go, from Python and from the shell."""

import copy
import json
import subprocess
import sys

import ds_prune
import numpy as np
import pytest
import torch
from idioms import IDIOMS
from torch import nn
from torch.nn.functional import cross_entropy

import ds_core as ds
from ds_core.errors import ConfigError, DsError, RefusedError, UnknownNameError
from ds_core.testing import jobs


class Net(nn.Module):
    """Two blocks with a residual connection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.outer = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.outer(self.inner(x))).mean((2, 3)))


PATTERNS = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def batches(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        y = torch.randint(4, (64,), generator=generator)
        yield torch.randn(64, 3, 8, 8, generator=generator) + PATTERNS[y], y


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for x, y in batches(80):
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.fixture
def model(trained):
    return copy.deepcopy(trained)


def accuracy(model):
    model.eval()
    with torch.no_grad():
        hits = [(model(x).argmax(1) == y).float().mean() for x, y in batches(4, seed=9)]
    return sum(hits).item() / 4


EXAMPLE = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("target", "figure"), [({"flops": 0.4}, "multiply_adds"), ({"params": 0.3}, "parameters")]
)
def test_a_target_is_reached_and_the_plan_says_so(model, target, figure):
    plan = ds_prune.prune(model, EXAMPLE, **target)
    before, after = plan.figures[figure]
    assert after / before <= next(iter(target.values()))
    assert plan.figures["parameters"][1] == sum(p.numel() for p in model.parameters())
    assert plan.result.error < 1e-5
    assert {row["layer"] for row in plan.result.layers}


def test_recovery_keeps_the_accuracy(model):
    dense = accuracy(model)
    bare, recovered = copy.deepcopy(model), model
    data = [x for x, _ in batches(8, seed=5)]
    ds_prune.prune(bare, EXAMPLE, ratio=0.5, data=data, recover=())
    ds_prune.prune(recovered, EXAMPLE, ratio=0.5, data=data)
    assert dense > 0.9
    assert accuracy(recovered) > accuracy(bare)
    assert accuracy(recovered) > dense - 0.1


def test_gradients_are_looked_at_and_left_as_they_were(model):
    model.stem[0].weight.grad = torch.ones_like(model.stem[0].weight)
    model.head.bias.requires_grad_(False)
    training = model.training
    statistics = model.stem[1].num_batches_tracked.clone()
    ds_prune.prune(model, EXAMPLE, flops=0.5, data=list(batches(3)), loss=cross_entropy, recover=())
    assert model.stem[0].weight.grad.shape == model.stem[0].weight.shape
    assert (model.stem[0].weight.grad == 1).all()
    assert model.head.weight.grad is None
    assert not model.head.bias.requires_grad
    assert model.training == training
    assert torch.equal(model.stem[1].num_batches_tracked, statistics)


def test_inputs_by_name_and_several_of_them():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 2)

        def forward(self, left, right):
            return self.head(torch.relu(self.a(left) + self.b(right)))

    left, right = torch.randn(2, 4, 8)
    for inputs in ((left, right), {"left": left, "right": right}):
        model = Two()
        ds_prune.prune(model, inputs, ratio=0.5, data=[inputs] * 4)
        assert model.a.out_features == model.b.out_features == model.head.in_features == 8


def refused(model, said, example=EXAMPLE, error=RefusedError, **options):
    before = jobs.values(model)
    with pytest.raises(error, match=said) as caught:
        ds_prune.prune(model, example, **{"flops": 0.5, **options})
    assert jobs.same_values(model, before)
    return caught.value


def test_what_cannot_be_done_changes_nothing(model):
    refused(model, "cannot be reached.*left", flops=0.01)
    refused(model, "example inputs|do not fit|inputs", example=torch.zeros(2, 5, 8, 8))
    refused(model, "'head'", keep=["haed"])
    refused(model, "head", layers={"head": 0.5}, flops=None)
    refused(model, "gradients", criterion="taylor", error=ConfigError)
    refused(model, "magnitude", criterion="magnitud", error=UnknownNameError)
    refused(model, "flops", flops=2.0, error=ConfigError)
    refused(model, "at least one of", flops=None, error=ConfigError)
    for multiple in (0, -8, 2.5, "measure"):
        refused(model, "round_to.*number from 1 up", round_to=multiple, error=ConfigError)
    refused(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), "no channel that could go")
    with ds.attach(model, config={}):
        refused(model, "attached to a session")


def test_channels_that_are_normalised_together_go_only_where_asked_for():
    def build():
        return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 4))

    x = torch.randn(4, 8)
    refused(build(), "normalised=True", example=x)
    model = build()
    ds_prune.prune(model, x, flops=0.5, normalised=True)
    assert model[1].normalized_shape == (model[0].out_features,) != (16,)


def test_data_that_a_forward_fails_on_changes_nothing(model):
    before = jobs.values(model)
    with pytest.raises(Exception, match=r"channels|shape|size"):
        ds_prune.prune(model, EXAMPLE, flops=0.5, data=[torch.zeros(2, 7, 8, 8)])
    assert jobs.same_values(model, before)


def test_a_data_dependent_forward_is_refused():
    class Branching(Net):
        def forward(self, x):
            scores = super().forward(x)
            return scores if scores.sum() > 0 else -scores

    refused(Branching(), "Branching")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_exports_compute_the_same(model, suffix, tmp_path):
    ds_prune.prune(model, EXAMPLE, flops=0.5)
    x = torch.randn(2, 3, 8, 8)
    path = tmp_path / f"small{suffix}"
    ds_prune.export(model, (x,), path)
    expected = model.eval()(x).detach()
    if suffix == ".pt2":
        got = torch.export.load(path).module()(x)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (name,) = (one.name for one in session.get_inputs())
        got = torch.from_numpy(session.run(None, {name: x.numpy()})[0])
    assert torch.allclose(got, expected, atol=1e-5)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_export_of_another_kind_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match=r"\.onnx or \.pt2"):
        ds_prune.export(model, (EXAMPLE,), tmp_path / "small.tflite")
    with pytest.raises(ConfigError, match="Cannot write"):
        ds_prune.export(model, (EXAMPLE,), tmp_path / "nowhere" / "small.pt2")


FRESH = """
import sys, torch, ds_prune
from test_one_shot import Net
small = ds_prune.load_model(sys.argv[1], model=Net()).eval()
torch.save(small(torch.ones(2, 3, 8, 8)).detach(), sys.argv[2])
"""


def test_a_plan_loads_in_a_fresh_process(model, tmp_path):
    ds_prune.prune(model, EXAMPLE, flops=0.5).save(tmp_path / "plan")
    folder = str(jobs.__file__ and __file__).rpartition("/")[0]
    subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "plan"), str(tmp_path / "out.pt")],
        check=True,
        cwd=folder,
        timeout=120,
    )
    got = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(got, model.eval()(torch.ones(2, 3, 8, 8)))


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.name)
def test_every_idiom_is_pruned_reloaded_and_trained_or_says_why_not(idiom, tmp_path):
    model = idiom.seeded()
    before = sum(p.numel() for p in model.parameters())
    whole = copy.deepcopy(model)
    try:
        plan = ds_prune.prune(model, _example(idiom), ratio=0.3)
    except RefusedError as error:
        assert str(error)  # noqa: PT017
        assert sum(p.numel() for p in model.parameters()) == before
        return
    plan.save(tmp_path / "plan")
    again = ds_prune.load_model(tmp_path / "plan", model=whole)
    first, second = (_outputs(one.eval(), idiom) for one in (model, again))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    if plan.result.layers and any(row["kept"] < row["of"] for row in plan.result.layers):
        assert sum(p.numel() for p in model.parameters()) < before


def _example(idiom):
    return idiom.inputs() or idiom.keywords()


def _outputs(model, idiom):
    from ds_core.nested import tensors_in

    with torch.no_grad():
        return list(tensors_in(model(*idiom.inputs(), **idiom.keywords())))


# From the shell


def run(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "ds_core", "prune", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_the_command_prunes_saves_and_exports(tmp_path):
    data = tmp_path / "inputs.npy"
    np.save(data, np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32))
    plan, exported = tmp_path / "small", tmp_path / "small.pt2"
    made = ("ds_core.testing.jobs:Mlp", "--input", "4x8", "--ratio", "0.5", "--data", data)
    found = json.loads(run(*made, "-o", plan, "--export", exported, "--json").stdout)
    assert found["parameters"][1] < found["parameters"][0]
    small = ds_prune.load_model(plan, trust=True)
    assert small.first.out_features == 8
    assert exported.exists()
    onnx = tmp_path / "small.onnx"
    assert run(*made, "--export", onnx).stderr == ""
    assert onnx.exists()
    shown = run(*made).stdout
    assert "multiply-adds" in shown
    assert "first" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ds_core.testing.jobs:Mlp", "--ratio", "0.5"), "--input"),
        (("ds_core.testing.jobs:Mlp", "--ratio", "0.5", "--input", "4by8"), "1x3x224x224"),
        (("ds_core.testing.jobs:Nothing", "--ratio", "0.5", "--input", "4x8"), "Nothing"),
        (("ds_core.testing.jobs:Mlp", "--input", "4x8"), "at least one of"),
        (("ds_core.testing.jobs:Mlp", "--ratio", "0.5", "--input", "4x8", "--round-to", "x"), "x"),
        (("ds_core.testing.jobs:Mlp", "--ratio", "0.5", "--input", "4x8", "--round-to", "0"), "0"),
        (("ds_core.testing.jobs:Mlp", "--ratio", "0.5", "--input", "4x9"), "inputs"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, said):
    done = run(*arguments, code=1)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("suffix", [".html", ".svg", ".png"])
def test_a_picture_of_what_was_kept(suffix, tmp_path):
    from ds_prune.picture import draw

    path = tmp_path / f"kept{suffix}"
    draw([(10, {"a": 8}), (20, {"a": 4, "b<1>": 3})], {"a": 8, "b<1>": 6}, path)
    content = path.read_bytes()
    assert len(content) > 300
    if suffix != ".png":
        assert b"4 of 8, steps 10 to 20" in content
        assert b"b&lt;1&gt;" in content
    with pytest.raises(DsError, match=r"\.html, \.png or \.svg"):
        draw([], {}, tmp_path / "kept.gif")
