"""Bad input gets one clear sentence, and nothing is changed."""

import copy

import pytest
import torch
from torch import nn

import ds_core as ds
from ds_core.builtin.autocast import Bf16, Fp16
from ds_core.builtin.cpu import Cpu
from ds_core.builtin.finite import DivergedError
from ds_core.components import Observer, Pruner
from ds_core.errors import (
    ConfigError,
    DsError,
    HookError,
    RefusedError,
    SessionError,
    UnknownNameError,
)
from ds_core.testing import jobs


def refused(kind, match, model=None, optimizer=None, **passes):
    model = jobs.Mlp() if model is None else model
    if optimizer is None and isinstance(model, nn.Module) and list(model.parameters()):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = jobs.snapshot(model, optimizer) if isinstance(model, nn.Module) else None
    with pytest.raises(kind, match=match) as caught:
        ds.attach(model, optimizer, **passes)
    if before:
        assert jobs.snapshot(model, optimizer) == before
        assert ds.session_of(model) is None
    assert isinstance(caught.value, DsError)
    assert "\n" not in str(caught.value)


def test_what_is_known_and_not_installed(monkeypatch):
    monkeypatch.setattr("ds_core.registry._known_plugins", lambda kind: {"okapi": "ds-okapi"})
    refused(UnknownNameError, "pip install ds-okapi", observers=["okapi"])


@pytest.mark.parametrize(
    ("kind", "match", "passes"),
    [
        (UnknownNameError, "Did you mean 'bf16'", {"precision": "bf17"}),
        (UnknownNameError, "Did you mean 'cuda'", {"backend": "cudda"}),
        (UnknownNameError, "Installed: magnitude", {"pruner": "zzzzzz"}),
        (
            ConfigError,
            "no option 'sparsty'. Did you mean 'sparsity'",
            {"pruner": {"name": "magnitude", "sparsty": 0.5}},
        ),
        (
            ConfigError,
            "'sparsity' cannot be 1.5",
            {"pruner": {"name": "magnitude", "sparsity": 1.5}},
        ),
        (ConfigError, "has options but no name", {"pruner": {"sparsity": 0.5}}),
        (ConfigError, "'total_stepz'. Did you mean 'total_steps'", {"config": {"total_stepz": 3}}),
        (ConfigError, "no such configuration", {"config": "nowhere.toml"}),
        (ConfigError, "is a precision, not a pruner", {"pruner": Bf16()}),
        (
            RefusedError,
            "ends at step 5, before it begins",
            {"pruner": {"name": "magnitude", "begin": 9, "end": 5}},
        ),
        (RefusedError, "outputs in float32", {"precision": {"name": "fp16", "outputs": "keep"}}),
        (
            ConfigError,
            "precision 'fp16': a loss scale needs 0 < min_scale .*, and got 1, 0.5, 1.67772e",
            {"precision": {"name": "fp16", "init_scale": 0.5}},
        ),
        (ConfigError, "precision cannot be torch.bfloat16", {"precision": torch.bfloat16}),
    ],
)
@pytest.mark.filterwarnings("ignore:fp16 works:RuntimeWarning")
def test_settings(kind, match, passes):
    refused(kind, match, **passes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_hardware_that_is_not_there():
    refused(ds.DsError, "cuda", backend="cuda")


@pytest.mark.parametrize(
    ("match", "model"),
    [
        ("must be a torch.nn.Module, not int", 3),
        ("ReLU has no parameters", nn.ReLU()),
        ("lazy parameters", nn.LazyLinear(3)),
        ("meta device", nn.Linear(2, 2, device="meta")),
    ],
)
def test_models(match, model):
    with pytest.raises(SessionError, match=match):
        ds.attach(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_dtypes_that_autocast_leaves_alone(dtype):
    refused(
        RefusedError, "which autocast leaves alone", nn.Linear(2, 2).to(dtype), precision="bf16"
    )


@pytest.mark.filterwarnings("ignore:fp16 works:RuntimeWarning")
def test_float16_parameters_are_refused_for_fp16():
    refused(RefusedError, "is float16 already", nn.Linear(2, 2).half(), precision="fp16")


def test_auto_keeps_the_dtype_of_a_model_that_autocast_leaves_alone():
    model = nn.Linear(2, 2).double()
    with ds.attach(model, precision="auto") as session:
        details = session.report().components[0].details
        assert details["dtype"] == "fp32"
        assert "float64" in details["why"]


def test_an_optimizer_of_another_model():
    other = torch.optim.SGD(jobs.Mlp().parameters(), 0.1)
    refused(SessionError, "holds none of the parameters of Mlp", jobs.Mlp(), other)
    with pytest.raises(SessionError, match=r"must be a torch\.optim\.Optimizer, not str"):
        ds.attach(jobs.Mlp(), "adam")


def test_attaching_and_detaching_twice():
    model = jobs.Mlp()
    session = ds.attach(model)
    with pytest.raises(SessionError, match="attached to a session already"):
        ds.attach(model, precision="bf16")
    session.detach()
    with pytest.raises(SessionError, match="not attached"):
        session.detach()
    ds.attach(model).detach()


def test_two_of_a_kind_by_hand():
    with pytest.raises(RefusedError, match="one precision, not 'bf16' and 'fp16'"):
        ds.Session(jobs.Mlp(), backend=Cpu(), passes=[Bf16(), Fp16()])


class Misspelt(Observer):
    name = "misspelt"

    @ds.hookimpl
    def ds_befor_step(self, session):
        """Never called."""


class WrongArgument(Observer):
    name = "wrong-argument"

    @ds.hookimpl
    def ds_before_step(self, sesion):
        """Never called."""


class Unmarked(Observer):
    name = "unmarked"

    def ds_before_step(self, session):
        """Never called."""


@pytest.mark.parametrize(
    ("component", "match"),
    [
        (Misspelt, "no hook 'ds_befor_step'. Did you mean 'ds_before_step'"),
        (WrongArgument, "no argument 'sesion'. Did you mean 'session'"),
        (Unmarked, "not marked as a hook"),
    ],
)
def test_hooks_that_match_no_specification(component, match):
    refused(HookError, match, observers=[component()])


class Fails(Pruner):
    name = "fails"

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.armed = False

    @ds.hookimpl
    def ds_prepare_model(self, session, model):
        session.changes.set_attribute(model, "mark", 1)
        if self.where == "prepare":
            raise ValueError("broken")

    @ds.hookimpl
    def ds_parameter_gradient(self, session, name, parameter):
        def hook(gradient):
            if self.where == "gradient" and self.armed:
                raise ValueError("broken")

        return hook

    @ds.hookimpl
    def ds_before_step(self, session, optimizer):
        if self.where == "before" and self.armed:
            raise ValueError("broken")


def test_a_component_that_fails_while_attaching():
    refused(
        HookError,
        "pruner 'fails' failed in ds_prepare_model: ValueError: broken",
        pruner=Fails("prepare"),
    )


@pytest.mark.parametrize("where", ["gradient", "before"])
def test_a_component_that_fails_in_the_middle_of_a_step(where):
    model = jobs.Mlp()
    optimizer = torch.optim.Adam(model.parameters())
    pruner = Fails(where)
    with ds.attach(model, optimizer, pruner=pruner) as session:
        jobs.train(model, optimizer, 2)
        before = copy.deepcopy((list(model.parameters()), optimizer.state_dict()["state"]))
        pruner.armed = True
        with pytest.raises(HookError, match=f"pruner 'fails' failed in .*{where}.*broken"):
            jobs.train(model, optimizer, 1)
        after = (list(model.parameters()), optimizer.state_dict()["state"])
        assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
        assert all(
            torch.equal(value, after[1][key][name])
            for key, state in before[1].items()
            for name, value in state.items()
        )
        assert session.steps == 2
        pruner.armed = False
        optimizer.zero_grad()
        jobs.train(model, optimizer, 1)


def test_nan_is_named_before_the_step_is_taken():
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    with ds.attach(model, optimizer, observers="finite"):
        jobs.train(model, optimizer, 2)
        before = jobs.values(model)
        (model.eval()(torch.randn(4, 8)).sum() * float("nan")).backward()
        with pytest.raises(DivergedError, match=r"At step 3, .*'first\.weight'"):
            optimizer.step()
        after = model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_states_that_do_not_fit():
    model = jobs.Mlp()
    with ds.attach(model, jobs.sgd(model), precision="bf16") as session:
        state = session.state_dict()
    with ds.attach(model, jobs.sgd(model), precision="fp32") as session:
        with pytest.raises(SessionError, match="saved with precision 'bf16'"):
            session.load_state_dict(state)
        with pytest.raises(SessionError, match="format 7"):
            session.load_state_dict({**state, "format": 7})


def test_a_class_changed_after_attach_is_not_overwritten():
    model = jobs.Mlp()
    session = ds.attach(model, precision="bf16")
    attached = type(model)
    model.__class__ = type("Wrapped", (attached,), {})
    with pytest.raises(SessionError, match="changed to Wrapped"):
        session.detach()
    model.__class__ = attached
    session.detach()
    assert type(model) is jobs.Mlp


def test_one_component_in_two_sessions():
    pruner = Fails("never")
    one, two = jobs.Mlp(), jobs.Mlp()
    session = ds.attach(one, jobs.sgd(one), pruner=pruner)
    with pytest.raises(SessionError, match="in use by the session of Mlp"):
        ds.attach(two, jobs.sgd(two), pruner=pruner)
    session.detach()
    ds.attach(two, jobs.sgd(two), pruner=pruner).detach()


class Doubles(Pruner):
    name = "doubles"

    @ds.hookimpl
    def ds_parameter_gradient(self):
        return lambda gradient: 2 * gradient


class Reshapes(Pruner):
    name = "reshapes"

    @ds.hookimpl
    def ds_parameter_gradient(self, name):
        return lambda gradient: gradient.flatten()


def test_gradient_functions_may_leave_out_arguments_and_keep_the_form():
    model = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    model(x).sum().backward()
    expected = 2 * model.weight.grad
    model.zero_grad()
    with ds.attach(model, jobs.sgd(model), pruner=Doubles()):
        model(x).sum().backward()
    assert torch.equal(model.weight.grad, expected)
    with (
        ds.attach(model, jobs.sgd(model), pruner=Reshapes()),
        pytest.raises(HookError, match="'reshapes' made of a gradient of shape"),
    ):
        model(x).sum().backward()


def test_observers_of_a_file_can_be_left_out(tmp_path):
    (tmp_path / "ds.toml").write_text('observers = ["finite"]\n')
    for observers, count in (((), 1), ("none", 0), (["none"], 0)):
        with ds.attach(jobs.Mlp(), observers=observers, config=tmp_path / "ds.toml") as session:
            assert len([p for p in session.components if p.kind == "observer"]) == count


class Ends(Pruner):
    name = "ends"
    times = 0

    @ds.hookimpl
    def ds_session_end(self):
        self.times += 1


def test_a_session_that_attaches_again_ends_again():
    ends = Ends()
    session = ds.attach(jobs.Mlp(), pruner=ends)
    session.detach()
    session.attach().detach()
    assert ends.times == 2
