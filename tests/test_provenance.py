"""Checkpoints and ranks: what a session was made of is compared, and the difference is named."""

import json
import subprocess
import sys

import pytest
import torch

import ds_core as ds
from ds_core.errors import DsError
from ds_core.provenance import Identity, differences, first_difference, session_states
from ds_core.registry import Registry
from ds_core.switches import Switches
from ds_core.testing import jobs
from tests.distributions import install
from tests.torchrun import ranks

WATCH = """
from ds_core.components import Observer, Options

class Watch(Observer):
    '''Watches.'''

    name = "watch"

    class Config(Options):
        '''How.'''

        every: int = 1
        '''Steps.'''
"""


def checkpoint(path, **passes):
    model = jobs.Mlp()
    optimizer = jobs.sgd(model)
    with ds.attach(model, optimizer, **passes) as session:
        jobs.train(model, optimizer, 2)
        torch.save({"model": model.state_dict(), "jobs": [session.state_dict()]}, path)
    return path


def test_a_checkpoint_of_this_installation_is_as_it_was(tmp_path):
    path = checkpoint(tmp_path / "c.pt", precision="bf16", pruner="magnitude")
    found = session_states(path)
    assert list(found) == ["jobs[0]"]
    assert [part.name for part in found["jobs[0]"]] == ["magnitude", "bf16", "cpu"]
    assert differences(found["jobs[0]"], Registry()) == []


def plugin(folder, monkeypatch, version="2.0", **more):
    install(
        folder,
        "ds-watch",
        {"ds.passes.observer": {"watch": "watch_module:Watch"}},
        modules={"watch_module": WATCH},
        version=version,
        **more,
    )
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("watch_module", None)
    return Registry([str(folder)], Switches())


@pytest.mark.parametrize(
    ("there", "more", "expected"),
    [
        ({}, {}, []),
        ({"version": "1.0"}, {}, [("version", "1.0", "2.0")]),
        ({"distribution": "ds-gone"}, {}, [("distribution", "ds-gone 2.0", "not installed")]),
        ({"config": {"every": 1, "old": 3}}, {}, [("option old", "3", None)]),
        ({"config": {}}, {}, [("option every", "not there", "1")]),
        ({}, {"requires": "ds-core>=99"}, [("status", "ok", "incompatible")]),
    ],
)
def test_each_difference_is_named(there, more, expected, tmp_path, monkeypatch):
    registry = plugin(tmp_path, monkeypatch, **more)
    saved = Identity(
        **{
            "kind": "observer",
            "name": "watch",
            "distribution": "ds-watch",
            "version": "2.0",
            "config": {"every": 1},
            **there,
        }
    )
    found = [(one.what, one.there, one.here) for one in differences([saved], registry)]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert all(want[2] in (None, got[2]) for got, want in zip(found, expected, strict=True))


def test_the_command_exits_with_1_where_something_differs(tmp_path):
    path = checkpoint(tmp_path / "c.pt", precision="bf16")
    run = [sys.executable, "-m", "ds_core", "explain", "--from", str(path)]
    done = subprocess.run([*run, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"jobs[0]": []}
    content = torch.load(path, weights_only=True)
    content["jobs"][0]["components"][0]["version"] = "0.0.1"
    torch.save(content, path)
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "precision 'bf16', version: 0.0.1 there" in done.stdout
    assert 'pip install "ds-core==0.0.1"' in done.stdout


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text").write_text("hello")
    torch.save(jobs.Mlp(), tmp_path / "pickle")
    torch.save({"model": {}}, tmp_path / "empty")
    for name, said in (
        ("text", "loads safely"),
        ("pickle", "loads safely"),
        ("empty", "no session's state"),
        ("missing", "Cannot read"),
    ):
        with pytest.raises(DsError, match=said):
            session_states(tmp_path / name)


def test_the_first_difference_of_two_ranks():
    one = {"kind": "precision", "name": "bf16", "distribution": "d", "version": "1", "config": {}}
    assert first_difference([one], [one]) == ""
    assert "version '2'" in first_difference([{**one, "version": "2"}], [one])
    assert "outputs='keep'" in first_difference([{**one, "config": {"outputs": "keep"}}], [one])
    assert "no components, and rank 0 has precision 'bf16'" in first_difference([], [one])


RANK = """
import os, sys
sys.modules["numpy"] = None  # torch does not depend on it, and neither may this
import torch
import ds_core as ds
rank = int(os.environ["RANK"])
model = torch.nn.Linear(2, 2)
precision = {"name": "bf16", "outputs": "keep" if rank == 1 else "float32"}
try:
    ds.attach(model, torch.optim.SGD(model.parameters(), 0.1), precision=precision,
              topology="flat")
except ds.DsError as error:
    print(error)
assert not torch.distributed.is_initialized()
assert type(model) is torch.nn.Linear
"""


@pytest.mark.processes
def test_ranks_that_differ_are_refused_on_all(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(RANK)
    for said in ranks(tmp_path, script):
        assert "Rank 1 is not like rank 0: its precision 'bf16' has outputs='keep'" in said
