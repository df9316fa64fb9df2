import itertools

import ds_inspector
import pytest
import torch
from ds_inspector.analysis import roofline
from ds_inspector.observer import Inspector
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as global_hooks

from ds_core.builtin.autocast import Bf16
from ds_core.builtin.cpu import Cpu
from ds_core.errors import ConfigError, RefusedError
from ds_core.session import Session
from ds_core.testing import jobs


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    monkeypatch.setattr(roofline, "measure_peaks", lambda device: {})


def attached(observer, *others, optimizer=True):
    torch.manual_seed(0)
    model = jobs.Mlp()
    found = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer else None
    backend = Cpu()
    backend.activate()
    return Session(model, found, backend=backend, passes=[*others, observer]).attach()


def train(session, steps):
    losses = []
    for x, y in itertools.islice(jobs.batches(steps), steps):
        loss = F.cross_entropy(session.model(x), y)
        session.optimizers[0].zero_grad()
        loss.backward()
        session.optimizers[0].step()
        losses.append(loss.item())
    return losses


def is_quiet():
    return (
        not global_hooks._has_any_global_hook()
        and torch.utils._python_dispatch._get_current_dispatch_mode() is None
        and not torch.autograd._profiler_enabled()
    )


def test_a_window_of_steps_is_recorded(tmp_path):
    observer = Inspector(start=1, steps=2, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 12)
        details = session.report().components[-1].details
    assert details["state"] == "done"
    assert set(details["overhead"]) == {"sources", "time", "lifetimes"}
    recording = ds_inspector.load(details["recording"])
    assert recording.steps.rows == 2
    assert recording.about.title == "Mlp"
    assert {"first", "norm", "last"} <= set(recording.events["module"])
    assert {"forward", "backward", "optimizer"} <= set(recording.events["phase"])
    found = recording.events["node"]
    assert len(set(found[found >= 0])) == recording.nodes.rows > 0
    assert {"parameter", "gradient", "activation"} <= set(recording.tensors["kind"])


def test_nothing_is_left_outside_the_window(tmp_path):
    observer = Inspector(start=3, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 2)
        assert is_quiet()
        train(session, 1)
        assert not is_quiet()
        train(session, 5)
        assert is_quiet()
        steps = observer.report()["steps seen"]
        train(session, 5)
        assert observer.report()["steps seen"] == steps  # it is not even called


def test_training_is_the_same(tmp_path):
    runs = []
    for start in (1, 10**6):
        observer = Inspector(start=start, steps=2, output=str(tmp_path / "run.dsrec"))
        with attached(observer) as session:
            torch.manual_seed(1)
            runs.append((train(session, 10), torch.rand(1).item()))
    assert runs[0] == runs[1]


def test_passes_are_named_and_their_dtypes_seen(tmp_path):
    observer = Inspector(start=1, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(observer, Bf16()) as session:
        train(session, 6)
    recording = ds_inspector.load(tmp_path / "run.dsrec")
    assert recording.about.passes == ["precision bf16"]
    assert "bfloat16" in set(recording.events["dtype"])
    assert recording.nodes.rows


def test_a_session_that_ends_early_keeps_what_there_is(tmp_path):
    observer = Inspector(start=1, steps=5, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 5)  # sources, plain, time, lifetimes
    assert is_quiet()
    assert ds_inspector.load(tmp_path / "run.dsrec").steps.rows == 1


def test_a_session_that_ends_before_the_window_writes_nothing(tmp_path):
    observer = Inspector(start=50, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 3)
    assert not list(tmp_path.iterdir())


def test_a_step_that_raises_leaves_nothing(tmp_path):
    observer = Inspector(start=1, steps=2, output=str(tmp_path / "run.dsrec"))

    def fails():
        with attached(observer) as session:
            train(session, 3)
            session.model(torch.randn(3, 5))

    with pytest.raises(RuntimeError, match="shapes"):
        fails()
    assert is_quiet()


def test_inference_counts_forwards(tmp_path):
    observer = Inspector(start=1, steps=2, output=str(tmp_path / "run.dsrec"))
    with attached(observer, optimizer=False) as session, torch.no_grad():
        for x, _ in jobs.batches(10):
            session.model(x)
    recording = ds_inspector.load(tmp_path / "run.dsrec")
    assert recording.steps.rows == 2
    assert "backward" not in set(recording.events["phase"])


def test_a_resumed_session_does_not_record_again(tmp_path):
    observer = Inspector(start=1, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 6)
        state = session.state_dict()
    (tmp_path / "run.dsrec").unlink()
    resumed = Inspector(start=1, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(resumed) as session:
        session.load_state_dict(state)
        train(session, 6)
        assert resumed.report()["state"] == "done"
    assert not (tmp_path / "run.dsrec").exists()


def test_a_changed_model_begins_the_window_anew(tmp_path):
    observer = Inspector(start=1, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 3)
        session.model.extra = nn.Linear(2, 2)
        session.model_changed()
        train(session, 8)
        details = observer.report()
    assert details["state"] == "done"
    assert any("begun anew" in problem for problem in details["problems"])


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="no folder"):
        attached(Inspector(output=str(tmp_path / "none" / "run.dsrec")))


def test_a_full_disk_stops_no_training(tmp_path, monkeypatch):
    from ds_inspector.recording import store

    def fails(recording, path):
        raise RefusedError("no room")

    monkeypatch.setattr(store, "save", fails)
    observer = Inspector(start=1, steps=1, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        assert len(train(session, 8)) == 8
        assert any("no room" in problem for problem in observer.report()["problems"])


def test_an_unknown_collector_is_refused():
    with pytest.raises(ConfigError, match="collectors"):
        Inspector(collectors=["times"])


@pytest.mark.parametrize(
    ("ranks", "rank", "written"),
    [("first", "0", "run.dsrec"), ("first", "1", None), ("all", "1", "run.1.dsrec")],
)
def test_ranks(tmp_path, monkeypatch, ranks, rank, written):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    observer = Inspector(start=1, steps=1, ranks=ranks, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 6)
    assert [path.name for path in tmp_path.iterdir()] == ([written] if written else [])


def test_steps_are_published(tmp_path, monkeypatch):
    import ds_inspector.live as live

    told = []

    class Told:
        problem = ""

        def __init__(self, name):
            told.append(name)

        def step(self, seconds, bytes=None, peak=None, **more):
            told.append(seconds)

        def close(self):
            told.append("end")

    monkeypatch.setattr(live, "Publisher", Told)
    observer = Inspector(start=1, steps=1, live=True, output=str(tmp_path / "run.dsrec"))
    with attached(observer) as session:
        train(session, 8)
    assert told[0] == "Mlp"
    assert told[-1] == "end"
    assert len(told) == 2 + 7
    assert all(seconds > 0 for seconds in told[1:-1])
