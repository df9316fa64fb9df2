"""The magnitude pruner."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ds_core as ds
from ds_core.builtin.magnitude import Magnitude
from ds_core.components import Observer
from ds_core.testing import jobs


@given(
    sparsity=st.floats(0.05, 0.95),
    scope=st.sampled_from(["global", "layer"]),
    end=st.integers(1, 6),
    every=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_the_sparsity_asked_for_is_reached_and_kept(sparsity, scope, end, every):
    torch.manual_seed(0)
    model = jobs.Mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options = {"sparsity": sparsity, "scope": scope, "end": end, "every": every}
    with ds.attach(model, optimizer, pruner={"name": "magnitude", **options}) as session:
        for _ in range(2):
            jobs.train(model, optimizer, 6)
            weights = [model.first.weight, model.last.weight]
            groups = [[w] for w in weights] if scope == "layer" else [weights]
            for group in groups:
                zeros = sum(int((w == 0).sum()) for w in group)
                assert zeros == round(sparsity * sum(w.numel() for w in group))
        assert model.first.bias.count_nonzero() > 0
        total = sum(w.numel() for w in weights)
        found = sum(int((w == 0).sum()) for w in weights)
        assert session.report().components[0].details["sparsity"] == found / total


@given(begin=st.integers(0, 20), length=st.integers(1, 50), sparsity=st.floats(0.01, 0.99))
def test_the_schedule_rises_from_nothing_to_the_target(begin, length, sparsity):
    model = jobs.Mlp()
    pruner = Magnitude(sparsity=sparsity, begin=begin, end=begin + length)
    with ds.attach(model, jobs.sgd(model), pruner=pruner):
        targets = [pruner.target(step) for step in range(begin + length + 3)]
    assert targets == sorted(targets)
    assert targets[begin] == 0
    assert targets[begin + length] == pytest.approx(sparsity)


def test_the_smallest_weights_go():
    model = torch.nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[3.0, -0.1, 0.2, -4.0]])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with ds.attach(model, optimizer, pruner={"name": "magnitude", "end": 1}):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert torch.equal(model.weight, torch.tensor([[3.0, 0.0, 0.0, -4.0]]))


def test_total_steps_set_the_end():
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    session = ds.attach(model, optimizer, pruner="magnitude", config={"total_steps": 8})
    assert session.report().components[0].details["reached at step"] == 4
    session.detach()


def test_weights_of_a_second_optimizer_are_pruned_too():
    model = jobs.Mlp()
    one = torch.optim.SGD(model.first.parameters(), 0.1, momentum=0.9)
    two = torch.optim.SGD([*model.norm.parameters(), *model.last.parameters()], 0.1, momentum=0.9)
    pruner = {"name": "magnitude", "end": 3, "every": 1, "scope": "layer"}
    with ds.attach(model, [one, two], pruner=pruner):
        for x, y in jobs.batches(6):
            torch.nn.functional.cross_entropy(model(x), y).backward()
            one.step(), two.step()
            one.zero_grad(), two.zero_grad()
    for weight in (model.first.weight, model.last.weight):
        assert int((weight == 0).sum()) == weight.numel() // 2


def test_a_skipped_step_is_no_step():
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)

    class Veto(Observer):
        name = "veto"

        @ds.hookimpl
        def ds_before_step(self, session, optimizer):
            return "vetoed"

    with ds.attach(
        model, optimizer, pruner={"name": "magnitude", "end": 2, "every": 1}, observers=[Veto()]
    ) as session:
        jobs.train(model, optimizer, 5)
        assert session.skipped == {"vetoed": 5}
        assert model.first.weight.count_nonzero() == model.first.weight.numel()


def test_weights_replaced_in_training_are_taken_anew():
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    with ds.attach(model, optimizer, pruner={"name": "magnitude", "end": 4, "every": 1}) as session:
        jobs.train(model, optimizer, 4)
        model.last = torch.nn.Linear(16, 3)
        session.model_changed()
        jobs.train(model, jobs.sgd(model), 0)
        layers = {one["layer"]: one for one in session.report().components[0].details["layers"]}
        assert layers["last.weight"]["weights"] == 48
        assert layers["last.weight"]["zeros"] == 0
        assert layers["first.weight"]["zeros"] > 0
