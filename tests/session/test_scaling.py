"""Loss scaling is invisible: whoever meets a gradient meets the true one."""

import copy
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import ds_core as ds
from ds_core.builtin.cpu import Cpu
from ds_core.components import PrecisionPolicy
from ds_core.errors import ConfigError, RefusedError
from ds_core.scaling import LossScale
from ds_core.testing import jobs
from tests.torchrun import ranks


class ScaleOnly(PrecisionPolicy):
    """A loss scale without a change of dtype: gradients must not differ at all."""

    name = "scale-only"

    def __init__(self, **options):
        super().__init__()
        self.scale = LossScale(**options)

    @ds.hookimpl
    def ds_loss_scale(self, session):
        return self.scale


def attach(model, optimizer, **options):
    return ds.attach(model, optimizer, backend=Cpu(), precision=ScaleOnly(**options))


def gradients(model, loss):
    model.zero_grad()
    loss(model).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same_gradients(model, loss):
    """The gradients of a loss are equal with and without a session, bit for bit."""
    expected = gradients(model, loss)
    with attach(model, jobs.sgd(model)):
        found = gradients(model, loss)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


X = torch.randn(16, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("model", jobs.MODELS)
@given(weight=st.floats(0, 1), power=st.integers(1, 3))
@settings(max_examples=5, deadline=None)
def test_any_loss_of_outputs_and_parameters(model, weight, power):
    torch.manual_seed(0)

    def loss(model):
        penalty = sum(p.abs().pow(power).sum() for p in model.parameters() if p.requires_grad)
        return model(X).pow(2).mean() + weight * penalty

    same_gradients(model().eval(), loss)


def test_a_part_called_on_its_own_is_not_scaled():
    same_gradients(jobs.Mlp().eval(), lambda model: model.last(torch.relu(model.first(X))).sum())


def test_two_scaled_models_in_a_row():
    first, second = jobs.Mlp().eval(), nn.Sequential(nn.Linear(4, 8), nn.Tanh())

    def loss(model):
        return second(model(X)).pow(2).mean()

    expected = gradients(first, loss)
    one, two = attach(first, jobs.sgd(first)), attach(second, jobs.sgd(second), init_scale=2.0**7)
    found = gradients(first, loss)
    one.detach()
    two.detach()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_gradients_of_inputs_are_true():
    model = jobs.Mlp().eval()
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(x).pow(2).sum(), x)
    with attach(model, jobs.sgd(model)):
        (found,) = torch.autograd.grad(model(x).pow(2).sum(), x)
    assert torch.equal(found, expected)


def test_a_gradient_of_a_gradient_is_refused():
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(x).sum(), x)
    with attach(model, jobs.sgd(model)):
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        assert torch.equal(gradient, expected)
        with pytest.raises(RefusedError, match="gradient of a gradient"):
            gradient.pow(2).sum().backward()


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.layer(x), self.layer(2 * x))


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda a, b: (a, [b, None, "text"]), lambda o: o[0].sum() + o[1][0].pow(2).sum()),
        (lambda a, b: {"a": a, 1: (b,)}, lambda o: o["a"].sum() + o[1][0].pow(2).sum()),
        (lambda a, b: jobs.Outputs(a, (b,)), lambda o: o.logits.sum() + o.extra[0].pow(2).sum()),
        (lambda a, b: torch.return_types.max((a, b)), lambda o: o[0].sum() + o[1].pow(2).sum()),
    ],
)
def test_outputs_in_containers(wrap, unwrap):
    same_gradients(Returning(wrap), lambda model: unwrap(model(X)))


def test_outputs_may_be_changed_in_place():
    def loss(model):
        out = model(X)
        out += 1
        out[:, 0] *= 2
        return out.sum()

    same_gradients(jobs.Mlp().eval(), loss)


def test_an_output_that_cannot_be_searched_is_refused():
    model = Returning(lambda a, b: SimpleNamespace(a=a))
    with attach(model, jobs.sgd(model)), pytest.raises(RefusedError, match="SimpleNamespace"):
        model(X)


def test_weights_are_the_users_own_after_an_exception_in_forward():
    model = jobs.Mlp()
    with attach(model, jobs.sgd(model)):
        with pytest.raises(RuntimeError):
            model(torch.randn(3, 5))
        assert all(isinstance(p, nn.Parameter) for p in model.parameters())


def test_checkpointing_without_reentry():
    class Net(jobs.Mlp):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    same_gradients(Net().eval(), lambda model: model(X).pow(2).sum())


def test_reentrant_checkpointing_is_refused():
    class Net(jobs.Mlp):
        def forward(self, x):
            return checkpoint(super().forward, x.requires_grad_(), use_reentrant=True)

    model = Net()
    with attach(model, jobs.sgd(model)), pytest.raises(RefusedError, match="use_reentrant=False"):
        model(X.clone())


def test_a_parameter_used_under_another_name_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)
            self.again = [self.layer.weight]

        def forward(self, x):
            return F.linear(x, self.again[0]) + self.layer(x)

    model = Net()
    with attach(model, jobs.sgd(model)):
        for _ in range(2):  # it does not pass the second time
            with pytest.raises(RefusedError, match=r"'layer\.weight'"):
                model(X)


def test_an_activation_kept_for_the_loss_is_named():
    model, kept = jobs.Mlp(), {}
    model.norm.register_forward_hook(lambda module, args, out: kept.update(features=out))
    with attach(model, jobs.sgd(model)), pytest.warns(RuntimeWarning, match="'features' in a dict"):
        model(X)


@pytest.mark.parametrize("model", jobs.MODELS)
def test_a_usual_forward_raises_no_alarm(model):
    model = model()
    with attach(model, jobs.sgd(model)), warnings.catch_warnings():
        warnings.simplefilter("error")
        output = model(X)
        output.sum().backward()


def test_an_overflowing_step_changes_nothing_and_is_counted():
    model = jobs.Mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    with attach(model, optimizer) as session:
        jobs.train(model, optimizer, 3)
        before = copy.deepcopy((list(model.parameters()), optimizer.state_dict()["state"]))
        (model(X).sum() * float("inf")).backward()
        # Clipping by value makes numbers of inf, which must not hide the overflow.
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        after = (list(model.parameters()), optimizer.state_dict()["state"])
        assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
        for key, state in before[1].items():
            assert all(torch.equal(value, after[1][key][name]) for name, value in state.items())
        assert session.skipped == {"overflow": 1}
        assert session.steps == 3
        assert session.loss_scale.value == 2.0**15
        jobs.train(model, optimizer, 1)
        assert session.steps == 4


def test_overflow_in_one_of_several_accumulated_batches_skips_the_step():
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    with attach(model, optimizer) as session:
        (model(X).sum() * float("nan")).backward()
        model(X).sum().backward()
        optimizer.step()
        assert session.skipped == {"overflow": 1}


def test_a_layer_unfrozen_later_is_watched():
    model = jobs.Tied()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with attach(model, optimizer) as session:
        jobs.train(model, optimizer, 1)
        model.frozen.requires_grad_(True)
        for _ in range(2):
            (model.frozen(X) * float("inf")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert session.skipped == {"overflow": 2}


def test_a_closure_is_watched():
    model = jobs.Mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)
    before = jobs.values(model)

    def closure():
        optimizer.zero_grad()
        loss = (model.eval()(X) * float("nan")).sum()
        loss.backward()
        return loss

    with attach(model, optimizer) as session:
        optimizer.step(closure)
        assert session.skipped["overflow"] == 1
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def two_optimizers(model):
    one = torch.optim.SGD(model.first.parameters(), 0.1)
    two = torch.optim.SGD([*model.norm.parameters(), *model.last.parameters()], 0.1)
    return one, two


def test_two_optimizers_each_skip_what_overflowed_of_theirs():
    model = jobs.Mlp()
    one, two = two_optimizers(model)
    with ds.attach(model, [one, two], backend=Cpu(), precision=ScaleOnly()) as session:
        model(X).sum().backward()
        one.step(), two.step()
        assert session.steps == 2
        model.zero_grad()
        before = jobs.values(model.eval())
        (model(X).sum() * float("inf")).backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        one.step(), two.step()
        assert session.skipped == {"overflow": 2}
        assert jobs.same_values(model, before)
        # Only the second's parameters overflow.
        model.zero_grad()
        (model.last(torch.ones(1, 16)) * float("nan")).sum().backward()
        model.first(X).sum().backward()
        one.step(), two.step()
        assert session.skipped == {"overflow": 3}
        assert session.steps == 3


def test_a_backward_that_is_still_to_come_keeps_its_scale():
    model = Returning(lambda a, b: (a, b))
    optimizer = jobs.sgd(model)
    with attach(model, optimizer):
        first, second = model(X)
        (first.sum() * float("inf")).backward(retain_graph=True)
        optimizer.step()  # overflows, and halves the scale
        optimizer.zero_grad()
        second.sum().backward()
        found = model.layer.weight.grad.clone()
    model.zero_grad()
    model(X)[1].sum().backward()
    assert torch.equal(found, model.layer.weight.grad)


def test_a_new_scale_compiles_nothing_anew():
    model = jobs.Conv()
    optimizer = jobs.sgd(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with attach(model, optimizer, growth_interval=1, init_scale=4.0) as session:
        jobs.train(model, optimizer, 2, call=compiled)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        jobs.train(model, optimizer, 3, call=compiled)
        assert session.loss_scale.value == 4.0 * 2**5
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_forwards_in_two_threads_leave_the_parameters_alone():
    model = jobs.Mlp().eval()
    with attach(model, jobs.sgd(model)):
        model(X)  # the audit, which walks all objects
        threads = [
            threading.Thread(target=lambda: [model(X).sum() for _ in range(50)]) for _ in range(3)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert all(type(p) is nn.Parameter for p in model.parameters())


class Cache:
    def __init__(self, keys):
        self.layers = [keys]


def test_a_cache_among_the_outputs_is_named_and_passed_on():
    model = Returning(lambda a, b: {"logits": a, "cache": Cache(b)})
    with attach(model, jobs.sgd(model)):
        with pytest.warns(RuntimeWarning, match="use_cache=False"):
            out = model(X)
        assert isinstance(out["cache"], Cache)
        out["logits"].sum().backward()


def test_objects_that_hide_no_gradient_pass():
    model = Returning(lambda a, b: {"logits": a, "kind": torch.float16, "cache": Cache(X)})
    with attach(model, jobs.sgd(model)), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(X)["kind"] is torch.float16


def test_the_users_own_data_parallel_ranks_skip_alike(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OWN_DDP)
    assert ranks(tmp_path, script) == ["SKIPPED {'overflow': 1} True\n"] * 2


OWN_DDP = """
import os, torch
import torch.distributed as dist
import ds_core as ds
from ds_core.builtin.cpu import Cpu
from ds_core.components import PrecisionPolicy
from ds_core.errors import RefusedError
from ds_core.scaling import LossScale

class ScaleOnly(PrecisionPolicy):
    name = "scale-only"

    @ds.hookimpl
    def ds_loss_scale(self):
        return LossScale()

dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
try:
    ds.attach(model, optimizer, topology="flat")
    raise SystemExit("two reducers were accepted")
except RefusedError:
    pass
with ds.attach(model, optimizer, backend=Cpu(), precision=ScaleOnly()) as session:
    for step in range(3):
        loss = model(torch.ones(2, 4)).sum()
        if step == 1 and dist.get_rank() == 1:
            loss = loss * float("inf")
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    sound = bool(torch.cat([p.flatten() for p in model.parameters()]).isfinite().all())
    print("SKIPPED", dict(session.skipped), sound, flush=True)
dist.barrier()
os._exit(0)
"""


def test_fp16_brings_back_gradients_that_it_would_flush():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    tiny = 1e-6

    def loss(out):
        return out.float().mean() * tiny

    model(X)
    loss(model(X)).backward()
    true = model[0].weight.grad.clone()
    model.zero_grad()
    with torch.autocast("cpu", torch.float16):
        out = model(X)
    loss(out).backward()
    flushed = model[0].weight.grad.clone()
    model.zero_grad()
    with (
        pytest.warns(RuntimeWarning, match="slow"),
        ds.attach(model, jobs.sgd(model), precision="fp16"),
    ):
        loss(model(X)).backward()
    found = model[0].weight.grad

    def error(gradient):
        return ((gradient - true).norm() / true.norm()).item()

    assert error(flushed) > 0.5
    assert error(found) < 1e-2


@given(overflows=st.lists(st.booleans(), max_size=60), interval=st.integers(1, 5))
def test_the_scale_stays_a_power_of_two_within_bounds(overflows, interval):
    scale = LossScale(2.0**4, growth_interval=interval, min_scale=1.0, max_scale=2.0**6)
    good = 0
    for overflow in overflows:
        before = scale.value
        scale.update(overflow)
        good = 0 if overflow else good + 1
        expected = before / 2 if overflow else before * 2 if good == interval else before
        good = 0 if good == interval else good
        assert scale.value == min(max(expected, 1.0), 2.0**6)
        assert [t.item() for t in scale.on(torch.device("cpu"))] == [scale.value, 1 / scale.value]


@given(overflows=st.lists(st.booleans(), max_size=20))
def test_the_scale_round_trips_through_its_state(overflows):
    one, two = LossScale(growth_interval=3), LossScale(growth_interval=3)
    for overflow in overflows:
        one.update(overflow)
    two.load_state_dict(one.state_dict())
    for overflow in (False, False, True, False):
        one.update(overflow), two.update(overflow)
        assert one.state_dict() == two.state_dict()


def test_a_loss_that_is_never_finite_is_told_of_once():
    scale = LossScale(1.0)
    with pytest.warns(RuntimeWarning, match="loss itself is nan or inf") as caught:
        for _ in range(200):
            scale.update(True)
    assert len(caught) == 1
    assert scale.value == 1.0


@pytest.mark.parametrize(
    "options",
    [{"init_scale": 0.5}, {"growth_factor": 1}, {"backoff_factor": 1}, {"growth_interval": 0}],
)
def test_senseless_scales_are_refused(options):
    with pytest.raises(ConfigError, match="needs"):
        LossScale(**options)
