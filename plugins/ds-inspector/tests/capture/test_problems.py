"""What cannot be recorded is said, and the rest is."""

import ds_inspector
import numpy as np
import pytest
import torch
from capture.nets import Net, loss_of
from ds_inspector.capture.recorder import Recorder
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


def test_a_compiled_model_has_times_and_memory():
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    compiled = torch.compile(model, backend="eager")
    recording = ds_inspector.inspect(compiled, torch.randn(2, 8), backward=True, steps=1)
    assert any("compiled" in problem for problem in recording.about.problems)
    assert recording.nodes.rows == 2
    assert "aten::addmm" in set(recording.events["name"])
    assert {"parameter", "gradient"} <= set(recording.tensors["kind"])


def test_recording_does_not_compile_again():
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    compiled = torch.compile(model, backend=backend)
    compiled(torch.randn(2, 8))
    before = len(graphs)
    ds_inspector.inspect(compiled, torch.randn(2, 8), steps=2, collectors=["time", "lifetimes"])
    compiled(torch.randn(2, 8))
    assert len(graphs) == before


def test_another_profiler_is_left_alone():
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        recording = ds_inspector.inspect(nn.Linear(4, 4), torch.randn(2, 4), steps=1)
        torch.ones(3)
    assert any("another profiler" in problem for problem in recording.about.problems)
    assert not recording.events.rows
    assert recording.tensors.rows
    assert "aten::ones" in {event.key for event in profiler.key_averages()}


def test_a_mode_of_the_users_that_spans_steps():
    model = nn.Linear(4, 4)
    recorder = Recorder(model, steps=1, collectors=["lifetimes"])
    x = torch.randn(2, 4)
    recorder.begin()
    model(x)
    recorder.end()
    recorder.begin()
    with FlopCounterMode(display=False) as flops:
        model(x)
        recorder.end()
        model(x)
    recorder.close()
    assert flops.get_total_flops() == 2 * 2 * 2 * 4 * 4
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_a_step_that_does_not_end_is_left_out():
    model = Net()
    recorder = Recorder(model, steps=2, collectors=["time"])
    x = torch.randn(4, 3, 12, 12)
    for _ in range(3):
        recorder.begin()
        loss_of(model(x)).backward()
        recorder.end()
    recorder.begin()
    model(x)
    recorded = recorder.close()
    assert list(recorded.seconds) == ["sources", "plain", "time"]
    assert any("did not end" in problem for problem in recorded.problems)
    assert not torch.autograd._profiler_enabled()


def test_two_forwards_in_a_step_find_their_nodes_twice():
    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return torch.tanh(self.inner(x))

    model = Twin()
    x = torch.randn(2, 4)
    from ds_inspector.capture.finishing import finish

    recorder = Recorder(model, steps=1, collectors=("time", "graph"))
    while not recorder.done:
        recorder.begin()
        (model(x) + model(2 * x)).sum().backward()
        recorder.end()
    recording = finish(recorder, ("time", "graph"))
    events = recording.events
    rows = np.flatnonzero(events.texts("name").equal("aten::tanh"))
    assert [events["node"][row] for row in rows] == [1, 1]
    assert recording.nodes.rows == 2


def test_data_parallel_wrappers_are_looked_into():
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = DistributedDataParallel(Net())
        recording = ds_inspector.inspect(
            model, torch.randn(4, 3, 12, 12), backward=loss_of, steps=1
        )
    finally:
        dist.destroy_process_group()
    assert "blocks.1.second" in set(recording.events["module"])
    assert recording.about.title == "Net"
    found = recording.events["node"]
    assert len(set(found[found >= 0])) == recording.nodes.rows


def test_sparse_gradients_are_no_obstacle():
    model = nn.Embedding(10, 4, sparse=True)
    recording = ds_inspector.inspect(
        model, torch.tensor([1, 2]), backward=lambda output: output.sum(), steps=1
    )
    assert recording.steps.rows == 1


@pytest.mark.parametrize("model", [nn.LSTM(4, 4), nn.TransformerEncoderLayer(8, 2)])
def test_modules_of_torch(model):
    x = torch.randn(3, 2, 4 if isinstance(model, nn.LSTM) else 8)
    recording = ds_inspector.inspect(model, x, backward=True, steps=1)
    assert recording.nodes.rows
    assert recording.events.rows
