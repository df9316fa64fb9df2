"""`load_model` and `transform`, through sources that are installed and one that a test installs."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import weakref
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ds_core
from ds_core import BackendSelector, attach, load_model, session_of, transform
from ds_core.builtin.autocast import Bf16
from ds_core.builtin.fold_bn import FoldBatchNorm
from ds_core.errors import (
    ConfigError,
    DsError,
    PluginError,
    RefusedError,
    SessionError,
    UnknownNameError,
)
from ds_core.mixed_precision import GradScaler
from ds_core.models import LoadConfig
from ds_core.registry import installed
from ds_core.selection import choose
from tests.distributions import install

SOURCES = """
import torch
from torch import nn

from ds_core.builtin.cpu import Cpu
from ds_core.components import TuneReport
from ds_core.components.model_source import ModelSource

tuned = []


class Tuned(Cpu):
    name = "tuned"
    rank = -1

    def tune(self, model, example_inputs):
        tuned.append(tuple(tensor.shape for tensor in example_inputs))
        model(*example_inputs)
        return TuneReport(changes=("nothing",))


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)
        self.seen = []

    def forward(self, x):
        x = self.conv(x)
        self.seen.append(x.dtype)
        return self.head(self.norm(x).relu().mean((2, 3)))


class Large(Small):
    pass


class Source(ModelSource):
    made = Small

    def names(self):
        return ["small", self.name + "-only"]

    def build(self, name, *, weights, num_classes):
        model = self.made(num_classes or 7)
        if weights == "pretrained":
            nn.init.zeros_(model.head.weight)
        return model

    def example_inputs(self, name, model, batch_size):
        return (torch.randn(batch_size, 3, 8, 8),)


class First(Source):
    name = "first"
    rank = 2


class Second(Source):
    name = "second"
    rank = 1
    made = Large


class Absent(ModelSource):
    name = "absent"

    def missing(self):
        return "the-library"

    def names(self):
        raise AssertionError("asked although its library is missing")


class Failing(Source):
    name = "failing"
    rank = 9

    def names(self):
        raise RuntimeError("operator does not exist\\nand more")


class Unfit(Source):
    name = "unfit"

    def example_inputs(self, name, model, batch_size):
        return (torch.randn(batch_size, 5),)

not_a_source = 3
"""


@pytest.fixture(scope="module", autouse=True)
def _sources(tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    install(
        site,
        "ds-small",
        {
            "ds.models": {
                "first": "ds_small:First",
                "second": "ds_small:Second",
                "absent": "ds_small:Absent",
                "unfit": "ds_small:Unfit",
                "failing": "ds_small:Failing",
                "broken": "ds_small:NoSuchThing",
                "odd": "ds_small:not_a_source",
            },
            "ds.backends": {"tuned": "ds_small:Tuned"},
        },
        modules={"ds_small": SOURCES},
    )
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(site)
    installed.cache_clear()
    yield
    patch.undo()
    installed.cache_clear()


@pytest.fixture
def tuned():
    import ds_small

    ds_small.tuned.clear()
    return ds_small.tuned


def small_class():
    import ds_small

    return ds_small.Small


def images(batch=2, size=8):
    return torch.randn(batch, 3, size, size)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def warned_if_slow(dtype):
    """What `dtype` gives on the backend that is best here: one warning, or none."""
    if choose(installed())[0].info().dtypes[dtype].fast:
        return nullcontext()
    return pytest.warns(RuntimeWarning, match=dtype)


# Names and sources


def test_the_source_of_the_highest_rank_builds_a_name():
    assert type(load_model("small")).__name__ == "Small"
    assert type(load_model("second:small")).__name__ == "Large"
    assert type(load_model("second-only")).__name__ == "Large"


def test_an_unknown_name_has_near_matches_of_all_sources_and_what_to_install():
    with pytest.raises(UnknownNameError) as caught:
        load_model("smal")
    assert "'small'" in str(caught.value)
    assert "pip install" in str(caught.value)
    assert "the-library" in str(caught.value)
    with pytest.raises(UnknownNameError, match="'second-only'"):
        load_model("secnod-only")


def test_a_source_asked_by_name_says_what_it_lacks():
    with pytest.raises(PluginError, match="pip install the-library"):
        load_model("absent:anything")
    with pytest.raises(UnknownNameError, match="in second"):
        load_model("second:first-only")
    with pytest.raises(PluginError, match="not a model source"):
        load_model("odd:anything")
    with pytest.raises(PluginError, match="NoSuchThing"):
        load_model("broken:anything")


def test_a_source_whose_library_is_broken_keeps_none_from_the_others(caplog):
    load_model("small")
    assert "'failing' does not work here: RuntimeError: operator does not exist" in caplog.text
    with pytest.raises(PluginError, match="operator does not exist"):
        load_model("failing:small")


def test_settings_are_checked_before_anything_is_built():
    with pytest.raises(ConfigError, match="'batch_size'"):
        load_model("small", {"batchsize": 3})
    with pytest.raises(ConfigError, match="batch_size"):
        load_model("small", batch_size=0)
    with pytest.raises(ConfigError, match="mapping"):
        load_model("small", "fp16")
    with pytest.raises(UnknownNameError, match="'bf16'"):
        load_model("small", precision="bf17")


def test_keywords_win_over_the_mapping_and_a_config_object_is_as_good():
    assert load_model("small", {"num_classes": 3}, num_classes=5)(images()).shape == (2, 5)
    assert load_model("small", LoadConfig(num_classes=4))(images()).shape == (2, 4)


def test_session_settings_come_from_files_too(tmp_path, monkeypatch):
    (tmp_path / "ds.toml").write_text('precision = "bf16"\n')
    monkeypatch.chdir(tmp_path)
    assert [part.name for part in session_of(load_model("small")).components] == ["bf16", "cpu"]


# Weights


def test_pretrained_and_random_are_up_to_the_source():
    assert not load_model("small", weights="pretrained").head.weight.any()
    assert load_model("small", weights="random").head.weight.any()


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("ending", [".safetensors", ".pt"])
def test_weights_come_from_a_file(tmp_path, ending, wrapper):
    path = tmp_path / f"weights{ending}"
    saved = load_model("small", num_classes=3)
    state = {wrapper + key: tensor for key, tensor in saved.state_dict().items()}
    if ending == ".pt":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    for model in (
        load_model("small", weights=path, num_classes=3),
        load_model(path, architecture="small", num_classes=3),
    ):
        for key, tensor in saved.state_dict().items():
            assert torch.equal(model.state_dict()[key], tensor)


def test_weights_that_do_not_fit_say_where(tmp_path):
    path = tmp_path / "weights.pt"
    state = load_model("small", num_classes=3).state_dict()
    torch.save(state, path)
    with pytest.raises(RefusedError, match=r"'head.weight'.*\(3, 4\).*num_classes"):
        load_model("small", weights=path, num_classes=5)
    torch.save({**state, "extra": torch.ones(1)}, path)
    with pytest.raises(RefusedError, match="'extra' is not in the model"):
        load_model("small", weights=path, num_classes=3)
    del state["conv.weight"]
    torch.save(state, path)
    with pytest.raises(RefusedError, match=r"'conv.weight' is not in them"):
        load_model("small", weights=path, num_classes=3)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_code_in_a_file_of_weights_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"head.weight": Trap()}, "weights.pt")
    with pytest.raises(ConfigError, match=r"could run code"):
        load_model("small", weights="weights.pt")
    assert not Path("sprung").exists()


def test_files_that_hold_no_weights_or_no_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "a.pt", "a.pt2"):
        Path(name).write_text("no tensors")
    torch.save([torch.ones(1)], "list.pt")
    for name in ("a.safetensors", "a.pt", "list.pt", "missing.pt"):
        with pytest.raises(ConfigError, match=name):
            load_model("small", weights=name)
    with pytest.raises(ConfigError, match="architecture="):
        load_model("list.pt")
    with pytest.raises(ConfigError, match="exported program"):
        load_model("a.pt2")
    with pytest.raises(ConfigError, match="no file"):
        load_model("nowhere.pt2")
    with pytest.raises(ConfigError, match=r"config\.json"):
        load_model("./")
    with pytest.raises(ConfigError, match="Leave one out"):
        load_model("list.pt", architecture="small", weights="a.pt")


def test_an_exported_program_is_a_model(tmp_path):
    path = tmp_path / "small.pt2"
    model = load_model("small").eval()
    model.seen = None  # a list would be changed by the forward
    model.forward = lambda x: model.head(model.norm(model.conv(x)).relu().mean((2, 3)))
    inputs = images()
    torch.export.save(torch.export.export(model, (inputs,)), path)
    loaded = load_model(path, batch_size=2)
    torch.testing.assert_close(loaded(inputs), model(inputs))
    low = load_model(path, precision="bf16")
    assert session_of(low) is not None
    torch.testing.assert_close(low(inputs), model(inputs), rtol=0.05, atol=0.05)
    with pytest.raises(ConfigError, match="num_classes"):
        load_model(path, num_classes=3)
    with pytest.raises(RefusedError, match="fold-bn"):
        load_model(path, transforms=["fold-bn"])


# Ready to run


def test_the_given_call_makes_a_model_that_computes_in_its_precision():
    config = {"precision": "fp16", "batch_size": 4, "backend": BackendSelector.AUTO}
    with warned_if_slow("fp16"):
        model = load_model("small", config)
    session = session_of(model)
    assert next(model.parameters()).device == session.backend.device() == session.device
    model.seen.clear()
    output = model(images().to(session.device))
    assert model.seen == [torch.float16]
    assert output.dtype == torch.float32
    assert model.training
    assert session.loss_scale is None


@pytest.mark.filterwarnings("ignore:fp16 works")
def test_an_explicit_grad_scaler_meets_no_second_scale():
    torch.manual_seed(1)
    model = load_model("small", precision="fp16")
    plain = copy.deepcopy(model)
    device = session_of(model).device
    x, y = images(8).to(device), torch.arange(8, device=device) % 7
    scaler, optimizer = GradScaler(init_scale=256.0), sgd(model)
    scaler.scale(F.cross_entropy(model(x), y)).backward()
    scaled = model.head.weight.grad.clone()
    scaler.unscale_(optimizer)
    F.cross_entropy(plain(x), y).backward()
    torch.testing.assert_close(scaled, 256 * plain.head.weight.grad, rtol=0.02, atol=0.02)
    torch.testing.assert_close(model.head.weight.grad, plain.head.weight.grad, rtol=0.02, atol=1e-3)


def test_without_passes_the_model_is_left_alone():
    model = load_model("small")
    assert session_of(model) is None
    assert type(model) is small_class()


def test_tuning_is_on_where_there_is_a_batch_size(tuned):
    load_model("small", backend="tuned")
    assert tuned == []
    load_model("small", backend="tuned", batch_size=5)
    assert tuned == [((5, 3, 8, 8),)]
    load_model("small", backend="tuned", batch_size=5, tune=False)
    assert len(tuned) == 1
    load_model("small", backend="tuned", tune=True)
    assert tuned[1] == ((1, 3, 8, 8),)


def test_a_model_that_cannot_be_tuned_says_so():
    with pytest.raises(RefusedError, match="tune=False"):
        load_model("unfit:small", backend="tuned", batch_size=2)


# The session


def test_the_session_lives_as_long_as_the_model():
    model = load_model("small", precision="bf16")
    gc.collect()
    assert session_of(model).attached
    session, watch = weakref.ref(session_of(model)), weakref.ref(model)
    del model
    gc.collect()
    assert watch() is None
    assert session() is None


def test_a_session_without_hooks_lives_as_long_too():
    model = load_model("small", precision="fp32")
    gc.collect()
    assert session_of(model) is not None
    session_of(model).detach()
    assert type(model) is small_class()
    assert session_of(model) is None


@pytest.mark.filterwarnings("ignore:fp16 works")
def test_attaching_takes_over_what_was_loaded():
    model = load_model("small", precision={"name": "fp16", "init_scale": 128.0})
    loaded = session_of(model)
    session = attach(model, sgd(model))
    assert not loaded.attached
    assert session_of(model) is session
    assert session.loss_scale.value == 128.0
    assert [part.name for part in session.components] == ["fp16", "cpu"]
    session.detach()
    assert type(model) is small_class()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"precision": "fp32"}, "fp32"),
        ({"precision": Bf16()}, "bf16"),
        ({"config": {"precision": "fp32"}}, "fp32"),
        ({"config": ds_core.SessionConfig(precision="fp32")}, "fp32"),
        ({"config": "given.toml"}, "fp32"),
        ({"precision": "none"}, None),
        ({"pruner": "magnitude"}, "bf16"),
        ({"observers": ["finite"]}, "bf16"),
    ],
    ids=str,
)
def test_what_attach_is_told_wins_over_what_was_loaded(settings, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.toml").write_text('precision = "fp32"\n')
    model = load_model("small", precision="bf16")
    session = attach(model, sgd(model), **settings)
    names = {part.kind: part.name for part in session.components}
    assert names.get("precision") == expected
    assert names.get("pruner") == settings.get("pruner")
    session.detach()


def test_what_lies_about_does_not_win_over_what_was_loaded(tmp_path, monkeypatch):
    (tmp_path / "ds.toml").write_text(
        'precision = "bf16"\npruner = "magnitude"\nobservers = ["finite"]\ntotal_steps = 10\n'
    )
    monkeypatch.chdir(tmp_path)
    model = load_model("small", precision="fp32", pruner="none", total_steps=20)
    session = attach(model, sgd(model))
    assert [part.name for part in session.components] == ["fp32", "cpu", "finite"]
    assert session.total_steps == 20
    session.detach()
    plain = load_model("small", precision="none", pruner="none", observers="none")
    session = attach(plain, sgd(plain))
    assert len(session.components) == 4  # nothing was loaded that it could go by
    session.detach()


@pytest.mark.filterwarnings("ignore:fp16 works")
def test_where_attaching_fails_the_loaded_session_is_back():
    model = load_model("small", precision={"name": "fp16", "outputs": "keep"})
    loaded = session_of(model)
    inputs = images()
    before = model(inputs)
    with pytest.raises(UnknownNameError):
        attach(model, sgd(model), pruner="no-such")
    # Outputs left in float16 are fine to look at, but not to train with.
    with pytest.raises(RefusedError, match="outputs"):
        attach(model, sgd(model))
    assert loaded.attached
    assert session_of(model) is not None
    assert torch.equal(model(inputs), before)
    model.seen.clear()
    assert model(inputs).dtype == torch.float16
    assert model.seen == [torch.float16]


def test_attaching_twice_stays_an_error():
    model = load_model("small", precision="bf16")
    with pytest.raises(SessionError, match="already"):
        attach(model)
    session = attach(model, sgd(model))
    with pytest.raises(SessionError, match="already"):
        attach(model, sgd(model))
    session.detach()


def test_a_loaded_model_compiles_in_one_graph():
    model = load_model("small", precision="bf16").eval()
    model.seen = []
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    inputs = images()
    torch.testing.assert_close(compiled(inputs), model(inputs))
    session = attach(compiled, sgd(model))
    assert [part.name for part in session.components] == ["bf16", "cpu"]
    torch.testing.assert_close(compiled(inputs), model(inputs))
    session.detach()


# Transforms


def test_transforms_are_applied_and_leave_a_model_for_inference():
    torch.manual_seed(3)
    plain = load_model("small").eval()
    torch.manual_seed(3)
    model = load_model("small", transforms=["fold-bn"], precision="fp32")
    assert not model.training
    assert isinstance(model.norm, nn.Identity)
    assert session_of(model) is not None
    inputs = images()
    torch.testing.assert_close(model(inputs), plain(inputs))


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def test_transform_takes_names_mappings_objects_and_several():
    model, inputs = net(), (images(),)
    fold = FoldBatchNorm()
    for wanted in ("fold-bn", {"name": "fold-bn", "tolerance": 0.1}, fold, ["fold-bn", fold]):
        made = transform(model, wanted, inputs)
        assert isinstance(made[1], nn.Identity)
    assert isinstance(model[1], nn.BatchNorm2d)
    assert transform(model, "fold-bn", inputs, tolerance=0.1) is not model


def test_transform_refuses_what_it_cannot_do():
    model, inputs = net(), (images(),)
    with pytest.raises(UnknownNameError, match="'fold-bn'"):
        transform(model, "fold-bm", inputs)
    with pytest.raises(ConfigError, match="'tolerance'"):
        transform(model, "fold-bn", inputs, tolerence=0.1)
    with pytest.raises(ConfigError, match="component object"):
        transform(model, FoldBatchNorm(), inputs, tolerance=0.1)
    with pytest.raises(ConfigError, match="2 transforms"):
        transform(model, ["fold-bn", "fold-bn"], inputs, tolerance=0.1)
    with pytest.raises(ConfigError, match="not a transform"):
        transform(model, [Bf16()], inputs)
    with attach(model, precision="bf16"), pytest.raises(SessionError, match="Detach first"):
        transform(model, "fold-bn", inputs)
    with pytest.raises(SessionError, match="Module"):
        transform("resnet50", "fold-bn", inputs)


# transformers


PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "mobilenet_v2": 3_504_872,
    "vit_b_16": 86_567_656,
    "gpt2": 124_439_808,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_architectures_have_their_published_size(name):
    pytest.importorskip("transformers")
    from ds_core.builtin.models.transformers import TransformersSource

    with torch.device("meta"):
        model = TransformersSource().build(name, weights="random", num_classes=None)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


@pytest.fixture
def folder(tmp_path):
    """A small residual network as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    model = transformers.ResNetForImageClassification(config)
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_classifier_returns_logits_and_is_still_transformers_own(folder, tmp_path):
    import transformers

    saved = transformers.ResNetForImageClassification.from_pretrained(folder).eval()
    model = load_model(folder)
    assert isinstance(model, transformers.ResNetForImageClassification)
    assert model.training
    assert list(model.state_dict()) == list(saved.state_dict())
    inputs, labels = images(2, 32), torch.tensor([0, 2])
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), saved(inputs).logits)
        assert model(inputs, labels=labels).loss == saved(inputs, labels=labels).loss
        for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert type(same) is type(model)
            assert torch.equal(same(inputs), model(inputs))
    model.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(load_model(tmp_path / "again").eval()(inputs), saved(inputs).logits)


def test_a_folder_takes_other_classes_precisions_and_fresh_weights(folder):
    assert load_model(folder, num_classes=5)(images(2, 32)).shape == (2, 5)
    model = load_model(f"transformers:{folder}", {"precision": "bf16", "batch_size": 2})
    assert model(images(2, 32)).dtype == torch.float32
    assert session_of(model).report().components[0].name == "bf16"
    stored, fresh = load_model(folder), load_model(folder, weights="random")
    key = "resnet.embedder.embedder.convolution.weight"
    assert not torch.equal(stored.state_dict()[key], fresh.state_dict()[key])


def test_folding_a_residual_network_of_transformers(folder):
    plain = load_model(folder).eval()
    model = load_model(folder, transforms=["fold-bn"], batch_size=2)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    inputs = images(3, 32)
    torch.testing.assert_close(model(inputs), plain(inputs), rtol=1e-4, atol=1e-5)


def test_a_whole_architecture_trains_in_the_usual_loop():
    pytest.importorskip("transformers")
    model = load_model("transformers:resnet18", num_classes=4)
    loss = nn.CrossEntropyLoss()(model(images(4, 32)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_transformers_says_what_it_cannot_build():
    pytest.importorskip("transformers")
    with pytest.raises(RefusedError, match="bare name 'clip'"):
        load_model("clip", weights="pretrained")
    with pytest.raises(RefusedError, match="alone"):
        load_model("encoder-decoder")
    with pytest.raises(RefusedError, match="no classification head"):
        load_model("vit_mae", num_classes=3)


def test_a_model_larger_than_memory_is_refused_before_it_is_built():
    pytest.importorskip("transformers")
    with pytest.raises(RefusedError, match="billion parameters"):
        load_model("deepseek_v3")


# Other libraries, where they are installed


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_architectures_of_other_libraries(library):
    pytest.importorskip(library)
    model = load_model(f"{library}:resnet18", num_classes=4, batch_size=2)
    assert model(images(2, 64)).shape == (2, 4)
    folded = load_model(f"{library}:resnet18", transforms=["fold-bn"])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_importing_loads_neither_torch_nor_a_library():
    code = (
        "import sys, ds_core.models, ds_core.components.model_source\n"
        "import ds_core.builtin.models.transformers, ds_core.builtin.models.torchvision\n"
        "import ds_core.builtin.models.timm, ds_core.builtin.models.file, ds_core.builtin.fold_bn\n"
        "print({'torch', 'transformers', 'timm', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_every_error_is_of_the_family():
    for arguments in (("nothing-like-it",), ("small", {"precision": 3}), ("small", {"weights": 3})):
        with pytest.raises(DsError):
            load_model(*arguments)
