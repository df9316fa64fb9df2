"""A session leaves the user's objects and results alone, and leaves no trace."""

import copy
import itertools
import pickle
import types
from collections import UserDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import ds_core as ds
from ds_core.testing import jobs

PASSES = {
    "precision": [None, "fp32", "bf16", "fp16", "auto"],
    "pruner": [None, {"name": "magnitude", "end": 5, "every": 2}],
    "topology": [None, "flat"],
    "observers": [(), ("finite",)],
}
everything = st.fixed_dictionaries({kind: st.sampled_from(c) for kind, c in PASSES.items()})
pytestmark = pytest.mark.filterwarnings("ignore:fp16 works:RuntimeWarning")


@given(passes=everything, model=st.sampled_from(jobs.MODELS), steps=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_detach_leaves_no_trace(passes, model, steps):
    model = model()
    optimizer = jobs.sgd(model)
    jobs.train(model, optimizer, 1)
    before, values = jobs.snapshot(model, optimizer), jobs.values(model)
    session = ds.attach(model, optimizer, **passes)
    assert list(model.state_dict()) == list(values)
    jobs.train(model, optimizer, steps)
    session.detach()
    assert jobs.snapshot(model, optimizer) == before
    if steps == 0:
        after = model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in values.items())


@pytest.mark.parametrize("model", jobs.MODELS)
@pytest.mark.parametrize("precision", [None, "fp32"])
def test_losses_are_identical_before_during_and_after(model, precision):
    plain = model()
    attached = copy.deepcopy(plain)
    plain_optimizer, optimizer = jobs.sgd(plain), jobs.sgd(attached)
    expected = jobs.train(plain, plain_optimizer, 9)
    batches = list(jobs.batches(9))
    losses = []
    for i in range(3):
        session = ds.attach(attached, optimizer, precision=precision) if i == 1 else None
        for x, y in batches[3 * i : 3 * i + 3]:
            loss = F.cross_entropy(attached(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(attached.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        if session:
            session.detach()
    assert losses == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("model", jobs.MODELS)
def test_a_deep_copy_and_a_pickle_are_plain(model, precision):
    model = model()
    plain_type, x = type(model), torch.randn(4, 8)
    session = ds.attach(model, jobs.sgd(model), precision=precision)
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    assert type(model) is not plain_type
    assert isinstance(model, plain_type)
    for other in (copied, pickled):
        assert type(other) is plain_type
        assert not any(p._backward_hooks for p in other.parameters())
    session.detach()
    model.eval(), copied.eval(), pickled.eval()
    assert torch.equal(model(x), copied(x))
    assert torch.equal(model(x), pickled(x))


def test_repr_signature_and_docstring_stay():
    import inspect

    model = jobs.Mlp()
    before = (repr(model), inspect.signature(model.forward), type(model).__name__)
    with ds.attach(model, jobs.sgd(model), precision="bf16"):
        assert (repr(model), inspect.signature(model.forward), type(model).__name__) == before


def test_a_forward_replaced_on_the_instance_is_surrounded_and_restored():
    model = jobs.Mlp()
    original = model.forward
    model.forward = lambda x: 2 * original(x)
    own = model.forward
    x = torch.randn(4, 8)
    expected = model(x)
    with ds.attach(model, jobs.sgd(model), precision={"name": "bf16", "outputs": "keep"}):
        assert model(x).dtype == torch.bfloat16
        copied = copy.deepcopy(model)
        assert type(copied) is jobs.Mlp
        assert vars(copied)["forward"] is not None
    assert model.forward is own
    assert torch.equal(model(x), expected)


def test_a_copy_of_a_model_with_a_forward_of_its_own_computes_with_its_own_weights():
    model = jobs.Mlp().eval()
    model.forward = types.MethodType(lambda self, x: self.last(torch.ones(1, 16)), model)
    with ds.attach(model, jobs.sgd(model), precision="bf16"):
        copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert copied(None).abs().sum() == 0
    assert model(None).abs().sum() > 0


def test_two_sessions_at_once_do_not_meet():
    first, second = jobs.Mlp(), jobs.Mlp()
    one = ds.attach(first, jobs.sgd(first), precision={"name": "bf16", "outputs": "keep"})
    two = ds.attach(second, jobs.sgd(second), precision="fp32")
    x = torch.randn(4, 8)
    assert first(x).dtype == torch.bfloat16
    assert second(x).dtype == torch.float32
    one.detach()
    assert ds.session_of(first) is None
    assert ds.session_of(second) is two
    two.detach()


def test_schedulers_accumulation_and_checkpoints_go_on(tmp_path):
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    with ds.attach(model, optimizer, precision="bf16") as session:
        for x, y in jobs.batches(4):
            (F.cross_entropy(model(x), y) / 2).backward()
            (F.cross_entropy(model(x), y) / 2).backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        assert session.steps == 4
        torch.save({"model": model.state_dict(), "session": session.state_dict()}, tmp_path / "c")
    assert scheduler.get_last_lr() == [0.1 * 0.5**4]
    saved = torch.load(tmp_path / "c", weights_only=True)
    fresh = jobs.Mlp()
    fresh.load_state_dict(saved["model"])
    with ds.attach(fresh, jobs.sgd(fresh), precision="bf16") as session:
        session.load_state_dict(saved["session"])
        assert session.steps == 4


@pytest.mark.parametrize(
    ("precision", "pruner"),
    list(itertools.product(["bf16", "fp16"], [None, {"name": "magnitude", "end": 9, "every": 2}])),
)
def test_a_resumed_session_continues_bit_for_bit(precision, pruner):
    def fresh():
        torch.manual_seed(0)
        model = jobs.Conv()
        optimizer = jobs.sgd(model)
        return model, optimizer, ds.attach(model, optimizer, precision=precision, pruner=pruner)

    model, optimizer, session = fresh()
    jobs.train(model, optimizer, 5, seed=1)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict(), session.state_dict()))
    expected = jobs.train(model, optimizer, 5, seed=2)
    session.detach()

    model, optimizer, session = fresh()
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    session.load_state_dict(saved[2])
    assert jobs.train(model, optimizer, 5, seed=2) == expected
    session.detach()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_torch_compile_in_one_graph(precision, when):
    model = jobs.Conv()
    eager = copy.deepcopy(model)
    optimizer = jobs.sgd(model)
    eager_optimizer = jobs.sgd(eager)
    if when == "before":
        compiled = torch.compile(model, fullgraph=True)
        session = ds.attach(compiled, optimizer, precision=precision)
    else:
        session = ds.attach(model, optimizer, precision=precision)
        compiled = torch.compile(model, fullgraph=True)
    losses = jobs.train(model, optimizer, 5, call=compiled)
    with ds.attach(eager, eager_optimizer, precision=precision):
        expected = jobs.train(eager, eager_optimizer, 5)
    tolerance = 1e-5 if precision is None else 3e-2
    assert losses == pytest.approx(expected, rel=tolerance)
    session.detach()
    assert type(model) is jobs.Conv


def test_bf16_equals_autocast_written_by_hand():
    model = jobs.Conv()
    plain = copy.deepcopy(model)
    optimizer, plain_optimizer = jobs.sgd(model), jobs.sgd(plain)
    losses = []
    for x, y in jobs.batches(10):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(plain(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        plain_optimizer.step()
        plain_optimizer.zero_grad()
        losses.append(loss.item())
    with ds.attach(model, optimizer, precision="bf16"):
        assert jobs.train(model, optimizer, 10) == losses


def test_objects_with_a_method_of_their_own_are_moved_by_it():
    class Batch(UserDict):
        def to(self, device):
            self.moved = str(device)
            return self

    model = jobs.Mlp()
    with ds.attach(model) as session:
        batch, number = session.to_device(Batch(x=torch.ones(1)), 3)
    assert batch.moved == "cpu"
    assert number == 3
