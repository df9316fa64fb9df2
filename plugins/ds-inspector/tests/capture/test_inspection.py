import copy

import ds_inspector
import numpy as np
import pytest
import torch
from capture.nets import Net, line, loss_of
from torch import nn
from torch.nn.modules import module as global_hooks

from ds_core.errors import ConfigError, RefusedError

STRUCTURE = {"", "stem", "norm", "dropout", *(f"blocks.{i}" for i in range(2))} | {
    f"blocks.{i}.{part}" for i in range(2) for part in ("first", "second")
}


def rows_of(table, **texts):
    found = np.ones(table.rows, bool)
    for column, text in texts.items():
        found &= table.texts(column).equal(text)
    return np.flatnonzero(found)


def test_every_module_is_there_by_its_name(training):
    events = training.events
    rows = rows_of(events, kind="module")
    assert {events["module"][row] for row in rows} == STRUCTURE


def test_operators_belong_to_the_module_that_called_them(training):
    events = training.events
    for name, module in {"aten::conv2d": "stem", "aten::batch_norm": "norm"}.items():
        rows = rows_of(events, name=name, phase="forward")
        assert {events["module"][row] for row in rows} == {module}
    rows = rows_of(events, name="aten::linear", phase="forward")
    assert [events["module"][row] for row in rows] == [
        f"blocks.{i}.{part}" for i in range(2) for part in ("first", "second")
    ] * 2


def test_backward_operators_belong_to_the_modules_of_their_forwards(training):
    events = training.events
    rows = rows_of(events, name="aten::convolution_backward")
    assert {(events["module"][row], events["phase"][row]) for row in rows} == {("stem", "backward")}
    rows = rows_of(events, name="aten::mm", phase="backward")
    assert {events["module"][row] for row in rows} == {
        f"blocks.{i}.{part}" for i in range(2) for part in ("first", "second")
    }


def test_accumulating_a_gradient_belongs_to_the_parameters_module(training):
    events = training.events
    rows = rows_of(events, name="torch::autograd::AccumulateGrad", module="stem")
    assert len(rows) == 2 * 2  # weight and bias, in two steps


def test_phases_are_told_apart(training):
    events = training.events
    names = {
        phase: {events["name"][row] for row in rows_of(events, phase=phase, kind="operator")}
        for phase in ("forward", "backward", "optimizer")
    }
    assert "aten::conv2d" in names["forward"]
    assert "aten::square" in names["forward"] or "aten::pow" in names["forward"]  # of the loss
    assert "aten::convolution_backward" in names["backward"] - names["forward"]
    assert "aten::addcdiv_" in names["optimizer"] - names["forward"] - names["backward"]


@pytest.mark.parametrize(
    ("operator", "phase", "mark"),
    [
        ("aten::mean", "forward", "mean"),
        ("aten::add", "forward", "residual"),
        ("aten::pow", "forward", "loss"),
        ("aten::threshold_backward", "backward", None),
    ],
)
def test_sources_are_the_lines_that_ran(training, operator, phase, mark):
    events = training.events
    rows = rows_of(events, name=operator, phase=phase)
    sources = {events["source"][row].rsplit("/")[-1] for row in rows}
    if mark is None:  # the backward has the line of the forward, not of the call of backward
        assert all("nets.py" in source for source in sources)
    else:
        assert line(mark) in sources


def test_children_lie_within_their_parents(training):
    events = training.events
    parent = events.numbers("parent")
    inside = np.flatnonzero(parent >= 0)
    above = parent[inside]
    start, end = events["start"], events["start"] + events["duration"]
    assert (start[inside] >= start[above] - 1e-12).all()
    assert (end[inside] <= end[above] + 1e-9).all()
    assert (events.texts("lane").codes[inside] == events.texts("lane").codes[above]).all()
    assert (events["step"][inside] == events["step"][above]).all()


def test_steps_lie_end_to_end_and_hold_their_events(training):
    start, end = training.steps["start"], training.steps["end"]
    assert len(start) == 2
    assert start[0] == 0
    assert start[1] == end[0]
    events = training.events
    step = events.numbers("step")
    assert (events["start"] >= start[step] - 1e-12).all()
    assert (events["start"] + events["duration"] <= end[step] + 1e-6).all()


def test_each_node_of_the_graph_is_found_among_what_ran(training):
    nodes, events = training.nodes, training.events
    assert nodes.rows >= 12
    found = events["node"][events["node"] >= 0]
    assert set(found) == set(range(nodes.rows))
    for row in rows_of(events, kind="operator", phase="forward"):
        node = events["node"][row]
        if node >= 0 and events["name"][row] == nodes["op"][node]:
            assert events["module"][row] == nodes["module"][node]
            assert events["source"][row] == nodes["source"][node]


def test_backward_operators_have_the_nodes_of_their_forwards(training):
    events, nodes = training.events, training.nodes
    (conv,) = rows_of(nodes, op="aten::conv2d")
    rows = rows_of(events, name="aten::convolution_backward")
    assert {events["node"][row] for row in rows} == {conv}


def test_flops_and_bytes(training):
    events = training.events
    row = rows_of(events, name="aten::addmm", phase="forward", module="blocks.0.first")[0]
    assert events["flops"][row] == 2 * 4 * 16 * 32
    assert events["bytes"][row] == 4 * (32 + 4 * 16 + 16 * 32 + 4 * 32)
    assert events["shapes"][row] == "32, 4x16, 16x32"
    assert events["dtype"][row] == "float32"


def test_collectors_say_what_they_cost(training):
    costs = {one.name: one.overhead for one in training.about.collectors}
    assert set(costs) == {"sources", "time", "lifetimes", "graph"}
    assert costs["time"] > 0
    assert costs["lifetimes"] > 0


def test_it_can_be_saved_and_read(training, tmp_path):
    read = ds_inspector.load(training.save(tmp_path / "run.dsrec"))
    assert read.about == training.about
    for name, table in training.tables.items():
        assert read.tables[name].rows == table.rows


def test_the_model_is_left_as_it_was():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    inputs = torch.randn(4, 3, 12, 12)
    loss_of(model(inputs)).backward()
    optimizer.step()
    model.norm.eval()
    gradients = [parameter.grad for parameter in model.parameters()]
    values = [gradient.clone() for gradient in gradients]
    state, options = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    random = torch.get_rng_state()
    ds_inspector.inspect(model, inputs, optimizer=optimizer, backward=loss_of, steps=1)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert not model.norm.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, gradient, value in zip(model.parameters(), gradients, values, strict=True):
        assert parameter.grad is gradient
        assert torch.equal(gradient, value)
    after = optimizer.state_dict()
    assert after["param_groups"] == options["param_groups"]
    for key, entries in options["state"].items():
        for name, value in entries.items():
            assert torch.equal(after["state"][key][name], value)
    assert not any(vars(module)["_forward_hooks"] for module in model.modules())
    assert not global_hooks._has_any_global_hook()


def test_a_fresh_optimizer_is_fresh_again():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    ds_inspector.inspect(model, torch.randn(4, 3, 12, 12), optimizer=optimizer, steps=1)
    assert not optimizer.state


def test_a_model_that_raises_is_left_as_it_was():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 3:
                raise ValueError("no")
            return self.inner(x)

    model = Fails()
    with pytest.raises(ValueError, match="no"):
        ds_inspector.inspect(model, torch.randn(2, 4))
    assert not global_hooks._has_any_global_hook()
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert not torch.autograd._profiler_enabled()


def test_a_module_that_fails_and_is_caught_ends_where_it_fails():
    class Part(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Part()
            self.other = nn.Linear(4, 4)

        def forward(self, x):
            try:
                return self.part(x)
            except ValueError:
                return torch.tanh(self.other(x))

    recording = ds_inspector.inspect(Tries(), torch.randn(2, 4), steps=1)
    events = recording.events
    (tanh,) = rows_of(events, name="aten::tanh")
    (linear,) = rows_of(events, name="aten::linear")
    assert events["module"][tanh] == ""
    assert events["module"][linear] == "other"
    made = rows_of(recording.tensors, op="aten::tanh")
    assert {recording.tensors["module"][row] for row in made} == {""}


def test_inference_has_no_backward():
    model = Net().eval()
    with torch.inference_mode():
        recording = ds_inspector.inspect(model, (torch.randn(4, 3, 12, 12),), steps=1)
    assert set(recording.events["phase"]) <= {"forward", "other"}
    assert "activation" not in set(recording.tensors["kind"])
    found = recording.events["node"]
    assert set(found[found >= 0]) == set(range(recording.nodes.rows))


def test_keyword_arguments():
    class Keyed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, *, x, scale=1.0):
            return self.inner(x) * scale

    recording = ds_inspector.inspect(Keyed(), {"x": torch.randn(2, 4), "scale": 2.0}, steps=1)
    assert recording.nodes.rows == 2
    assert not recording.about.problems
    assert "input" in set(recording.tensors["kind"])


def test_only_what_was_asked_for():
    recording = ds_inspector.inspect(
        nn.Linear(4, 4), torch.randn(2, 4), collectors=["lifetimes"], steps=1
    )
    assert recording.tensors.rows
    assert not recording.events.rows
    assert not recording.nodes.rows
    assert recording.steps.rows == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"collectors": ["times"]}, "'time'"), ({"steps": 0}, "steps cannot be 0")],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        ds_inspector.inspect(nn.Linear(4, 4), torch.randn(2, 4), **options)


def test_an_output_without_a_loss_is_refused():
    class Counts(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    with pytest.raises(RefusedError, match="backward="):
        ds_inspector.inspect(Counts(), torch.randn(2, 4), backward=True)


def test_dtypes_under_autocast():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    with torch.autocast("cpu", torch.bfloat16):
        recording = ds_inspector.inspect(model, torch.randn(2, 8), backward=True, steps=1)
    events = recording.events
    (row,) = rows_of(events, name="aten::addmm", phase="forward")
    assert events["dtype"][row] == "bfloat16"
    assert "bfloat16" in set(recording.tensors["dtype"])
