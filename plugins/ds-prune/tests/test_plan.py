"""Plans: kept in folders, done again on fresh models, refused where they do not fit."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ds_prune.plan import Plan, load_model
from ds_prune.surgery import Change, Record, remove
from ds_prune.surgery.source import Source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from ds_core.errors import ConfigError, DsError, RefusedError

sys.path.insert(0, str(Path(__file__).parent / "surgery"))

from cut_nets import NETS, Net, half, masks, net, rows, stack


def planned(name="stack", **options):
    """A net whose model is small, its plan, and a whole model to make small."""
    one = NETS[name]()
    fresh = NETS[name]().model
    record = remove(one.model, one.structure, half(one.structure)).record
    return one, Plan.of(one.model, record, **options), fresh


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_fresh_model_becomes_the_small_one(name, tmp_path_factory, data):
    one, fresh = NETS[name](), NETS[name]().model
    removal = remove(one.model, one.structure, data.draw(masks(one.structure)))
    folder = tmp_path_factory.mktemp("plans") / "plan"
    Plan.of(one.model, removal.record).save(folder)
    again = load_model(folder, fresh)
    assert again is fresh
    other = Net(again, one.structure, one.args, one.kwargs)
    torch.testing.assert_close(other.output(), one.output(), rtol=0, atol=0)
    for key, tensor in one.model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)
    for key, module in one.model.named_modules():
        other = again.get_submodule(key)
        assert type(other).__qualname__ == type(module).__qualname__
        numbers = {k: v for k, v in vars(module).items() if type(v) in (int, tuple)}
        assert numbers == {k: vars(other)[k] for k in numbers}


def test_a_fresh_process_gets_the_same_outputs(tmp_path):
    one, plan, _ = planned("encoder", source=Source("function", "made_here:build"))
    plan.save(tmp_path / "plan")
    torch.save((one.args, one.output()), tmp_path / "outputs.pt")
    (tmp_path / "made_here.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)\n"
        "    return nn.TransformerEncoder(layer, 2)\n"
    )
    code = (
        "import sys, torch; sys.path.insert(0, '.')\n"
        "from ds_prune.plan import load_model\n"
        "args, expected = torch.load('outputs.pt')\n"
        "model = load_model('plan', trust=True).eval()\n"
        "torch.testing.assert_close(model(*args), expected)\n"
        "print(sum(p.numel() for p in model.parameters()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(p.numel() for p in one.model.parameters())


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    _, plan, _ = planned("heads", figures={"multiply_adds": (100, 60)})
    plan.save(tmp_path / "one")
    Plan.load(tmp_path / "one").save(tmp_path / "two")
    for name in ("plan.json", "weights.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_a_plan_tells(tmp_path):
    one, plan, fresh = planned(figures={"multiply_adds": (100, 60)})
    numbers = [sum(p.numel() for p in model.parameters()) for model in (fresh, one.model)]
    plan.save(tmp_path / "plan")
    found = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert found["figures"] == {"multiply_adds": [100, 60], "parameters": numbers}
    assert found["kept"]["3.weight"] == {"0": [0, 2, 4], "1": [0, 2, 4, 6]}
    assert ["0.weight", [8, 3, 3, 3], [4, 3, 3, 3]] in found["shapes"]
    assert found["model"] == "Sequential"
    assert found["versions"]["torch"] == torch.__version__
    change = {"module": "0", "attribute": "out_channels", "old": 8, "new": 4}
    assert change in found["attributes"]


def test_without_weights_a_model_keeps_its_own(tmp_path):
    _, plan, fresh = planned(weights=False)
    plan.save(tmp_path / "plan")
    assert [file.name for file in (tmp_path / "plan").iterdir()] == ["plan.json"]
    own = fresh[0].weight.detach().clone()
    plan = Plan.load(tmp_path / "plan")
    with pytest.raises(RefusedError, match="holds no weights"):
        plan.apply(fresh)
    plan.apply(fresh, weights=False)
    assert torch.equal(fresh[0].weight, own[::2])
    assert load_model(tmp_path / "plan", stack().model)[0].out_channels == 4


class Buffered(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.Linear(6, 3))
        self.register_buffer("scale", torch.arange(6.0), persistent=False)
        numbers = torch.arange(8.0)
        self[1].register_buffer("view", numbers[2:5])
        self[1].register_buffer("other", numbers[3:6])

    def forward(self, x):
        return self[1](self[0](x) * self.scale)


def test_buffers_that_are_not_saved_are_cut_and_views_are_saved(tmp_path):
    model, fresh = Buffered(), Buffered()
    members = [*rows("0"), ("scale", 0, "follow"), ("1.weight", 1, "consume")]
    one = net(model, torch.randn(2, 4), {"0": members})
    with torch.no_grad():
        model.scale.copy_(torch.arange(6.0))
    record = remove(model, one.structure, half(one.structure)).record
    Plan.of(model, record).save(tmp_path / "plan")
    load_model(tmp_path / "plan", fresh)
    assert fresh.scale.tolist() == [0, 2, 4]
    assert torch.equal(fresh[1].view, model[1].view)
    assert torch.equal(fresh[1].other, model[1].other)
    assert torch.equal(fresh(*one.args), model(*one.args))


def test_tensors_of_one_storage_are_saved(tmp_path):
    one, _, fresh = planned()
    flat = torch.cat([parameter.data.flatten() for parameter in one.model.parameters()])
    start = 0
    for parameter in one.model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    record = remove(fresh, stack().structure, half(stack().structure)).record
    Plan.of(one.model, record).save(tmp_path / "plan")
    again = load_model(tmp_path / "plan", stack().model)
    assert torch.equal(again[0].weight, one.model[0].weight)


def test_a_plan_that_cannot_be_moved_to_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    _, plan, _ = planned()
    plan.save(tmp_path / "plan")
    rename = Path.rename

    def fail(path, target):
        if path.name.endswith(".new"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ConfigError, match="cannot be written"):
        Plan(plan.record, "Other").save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan").model == "Sequential"
    assert [one.name for one in tmp_path.iterdir()] == ["plan"]


def test_a_plan_of_several_removals():
    one, _, fresh = planned()
    del one
    one = stack()
    first = remove(one.model, one.structure, half(one.structure)).record
    members = [*rows("0", "1"), ("3.weight", 1, "consume")]
    again = net(one.model, one.args, {"0": members})
    second = remove(one.model, again.structure, {"0": np.array([True, False, False, True])}).record
    with pytest.raises(RefusedError, match=r"Record\.then"):
        Plan.of(one.model, first)
    with pytest.raises(ConfigError, match="did not begin where"):
        second.then(first)
    plan = Plan.of(one.model, first.then(second))
    plan.apply(fresh)
    assert plan.record.kept["0.weight"][0].tolist() == [0, 6]
    torch.testing.assert_close(fresh.eval()(*one.args), one.output())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: nn.Linear(3, 4), "has no '0.weight'"),
        (lambda: nn.Sequential(nn.Conv2d(3, 9, 3)), "'0.weight' has shape (9, 3, 3, 3)"),
        (lambda: nn.Sequential(*stack().model, nn.Linear(5, 5)), "'6.weight' of this Sequential"),
        (lambda: planned()[0].model, "'0.weight' has shape (4, 3, 3, 3)"),
    ],
)
def test_models_that_do_not_fit_are_refused_and_stay(model, said):
    _, plan, _ = planned()
    other = model()
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(RefusedError) as error:
        plan.apply(other)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in other.state_dict().items())


def test_an_attribute_that_differs_is_refused_and_nothing_changes():
    _, plan, fresh = planned("gated")
    fresh.hidden = 9
    before = fresh.up.weight.detach().clone()
    with pytest.raises(RefusedError, match="'hidden' of the model is 9 in this Gated"):
        plan.apply(fresh)
    assert torch.equal(fresh.up.weight, before)
    assert fresh.up.out_features == 20


def test_weights_of_another_model_are_refused_and_nothing_changes(tmp_path):
    _, plan, fresh = planned()
    plan.save(tmp_path / "plan")
    weights = tmp_path / "plan" / "weights.safetensors"
    state = load_file(weights)
    del state["5.bias"]
    save_file(state, weights)
    with pytest.raises(RefusedError, match=r"do not have '5\.bias'"):
        load_model(tmp_path / "plan", fresh)
    assert fresh[0].weight.shape == (8, 3, 3, 3)


def damage_json(change):
    def damage(folder):
        path = folder / "plan.json"
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return damage


DAMAGES = {
    "no json": lambda folder: (folder / "plan.json").unlink(),
    "half a json": lambda folder: cut_file(folder / "plan.json"),
    "no text": lambda folder: (folder / "plan.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda folder: (folder / "plan.json").write_text("[]"),
    "deep": lambda folder: (folder / "plan.json").write_text("[" * 100_000),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "half of the weights": lambda folder: cut_file(folder / "weights.safetensors"),
    "other weights": lambda folder: save_file(
        {"0.weight": torch.zeros(2)}, folder / "weights.safetensors"
    ),
    "a newer format": damage_json(lambda found: found.update(format=2)),
    "no format": damage_json(lambda found: found.pop("format")),
    "something else": damage_json(lambda found: found.update(run="rm")),
    "text for a number": damage_json(lambda found: found["attributes"][0].update(new="os.system")),
    "negative": damage_json(lambda found: found["kept"]["0.weight"].update({"0": [-1, 2]})),
    "too far": damage_json(lambda found: found["kept"]["0.weight"].update({"0": [0, 1, 2, 99]})),
    "twice": damage_json(lambda found: found["kept"]["0.weight"].update({"0": [0, 1, 1, 2]})),
    "nothing": damage_json(lambda found: found["kept"]["0.weight"].update({"0": []})),
    "no such dimension": damage_json(lambda found: found["kept"]["0.weight"].update({"7": [0]})),
    "no number": damage_json(lambda found: found["kept"]["0.weight"].update({"x": [0]})),
    "no such tensor": damage_json(lambda found: found["kept"].update({"x": {"0": [0]}})),
    "another shape": damage_json(lambda found: found["shapes"][0][2].__setitem__(0, 5)),
}


def cut_file(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_told_in_one_sentence(damage, tmp_path):
    _, plan, fresh = planned()
    plan.save(tmp_path / "plan")
    DAMAGES[damage](tmp_path / "plan")
    with pytest.raises(ConfigError) as error:
        load_model(tmp_path / "plan", fresh)
    assert "\n" not in str(error.value)
    assert fresh[0].weight.shape == (8, 3, 3, 3)


NAMES = ["forward", "_parameters", "qkv", "training", "settings"]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_plan_that_was_tampered_with_sets_numbers_at_most(data):
    """Whatever module and attribute it names, nothing but an equal number is replaced."""
    _, plan, fresh = planned("heads")
    attribute = data.draw(st.sampled_from(NAMES))
    change = Change(data.draw(st.sampled_from(["", "out"])), attribute, 1, 0)
    bad = Plan(Record(plan.record.shapes, plan.record.kept, (change,)), "Heads")
    with pytest.raises(RefusedError):
        bad.apply(fresh, weights=False)
    assert fresh.qkv.weight.shape == (48, 16)


def test_only_plans_are_overwritten(tmp_path):
    _, plan, _ = planned()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(ConfigError, match="is no plan"):
            plan.save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"
    (tmp_path / "empty").mkdir()
    plan.save(tmp_path / "empty")
    other = Plan(plan.record, "Other")
    other.save(tmp_path / "empty")
    assert Plan.load(tmp_path / "empty").model == "Other"
    assert {one.name for one in tmp_path.iterdir()} == {"mine", "file", "empty"}


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path):
    _, plan, _ = planned()
    plan.save(tmp_path / "plan")
    code = (
        "import resource, signal, sys\n"
        "from ds_prune.plan import Plan\n"
        "from ds_core.errors import ConfigError\n"
        "plan = Plan.load('plan')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for name in ('plan', 'new'):\n"
        "    try:\n"
        "        plan.save(name)\n"
        "    except ConfigError as error:\n"
        "        sys.stderr.write(str(error))\n"
        "    else:\n"
        "        sys.exit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 2
    assert [one.name for one in tmp_path.iterdir()] == ["plan"]
    assert Plan.load(tmp_path / "plan").weights.keys() == plan.weights.keys()


def test_code_in_a_plan_needs_trust(tmp_path, monkeypatch):
    _, plan, _ = planned(source=Source("function", "evil_here:build", {"width": 3}))
    (tmp_path / "evil_here.py").write_text("raise SystemExit('it was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan.save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan").source == plan.source
    with pytest.raises(RefusedError, match="trust=True"):
        load_model(tmp_path / "plan")
    assert "evil_here" not in sys.modules


@pytest.mark.parametrize("name", ["file:x.pt2", "model.pt2", "/", "file:."])
def test_files_in_a_plan_need_trust(name):
    with pytest.raises(RefusedError, match="trust=True"):
        Source("model", name).build(trust=False)


def test_a_plan_without_a_source_asks_for_the_model(tmp_path):
    _, plan, _ = planned()
    plan.save(tmp_path / "plan")
    with pytest.raises(RefusedError, match=r"does not say how its Sequential is made.*model="):
        load_model(tmp_path / "plan")


@pytest.mark.parametrize(
    ("function", "said"),
    [("no_such_module:f", "ModuleNotFoundError"), ("math:sqrt", "TypeError"), ("os:getcwd", "str")],
)
def test_a_function_that_makes_no_model_is_told(function, said):
    with pytest.raises(RefusedError, match=said):
        Source("function", function).build(trust=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Source("function", "no_colon"),
        lambda: Source("function", "m:f", {"x": (1, 2)}),
        lambda: Source("function", "m:f", {"x": object()}),
        lambda: Source("model", "resnet18", {"weights": "/etc/passwd"}),
    ],
)
def test_sources_that_cannot_be_kept_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_a_model_by_name(tmp_path):
    from ds_core import load_model as by_name

    pytest.importorskip("transformers")
    model = by_name("transformers:resnet18", num_classes=3)
    members = [("classifier.1.bias", 0, "follow")]
    one = net(model, torch.zeros(1), {"x": members})
    record = remove(model, one.structure, {"x": np.ones(3, bool)}).record
    plan = Plan.of(
        model, record, source=Source("model", "transformers:resnet18", {"num_classes": 3})
    )
    plan.save(tmp_path / "plan")
    again = load_model(tmp_path / "plan")
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"any": "thing"}


def test_states_that_are_no_tensors_are_refused():
    model = Extra(2, 2)
    one = net(model, torch.zeros(1), {"x": [("weight", 0, "produce")]})
    record = remove(model, one.structure, {"x": np.array([True, False])}).record
    with pytest.raises(DsError, match="_extra_state"):
        Plan.of(model, record)
    assert Plan.of(model, record, weights=False).weights is None
