import json
import os
import subprocess
import sys
import time
from contextlib import closing

import pytest
from click.testing import CliRunner
from ds_inspector.command import inspect
from ds_inspector.live import Publisher

from ds_core.errors import UnknownNameError


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    """A runtime folder of the test's own."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def run(*arguments):
    return CliRunner().invoke(inspect, ["attach", *map(str, arguments)], catch_exceptions=False)


def streamed(publisher, *options):
    """What another process prints of three steps."""
    command = [sys.executable, "-m", "ds_core", "inspect", "attach", str(os.getpid()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not publisher.listeners:
            publisher.step(0.5, step=0)
            time.sleep(0.01)
        publisher.step(0.25, bytes=1 << 20, peak=1 << 21, step=1, loss=0.5)
        publisher.close()
        return process.communicate(timeout=60)[0].splitlines()


def test_without_sessions_it_says_so():
    assert run().output == "No session that publishes its steps is running.\n"
    assert run("--json").output == ""


def test_sessions_are_listed():
    with closing(Publisher("train.py")):
        head, row = run().output.splitlines()
        assert head.split() == ["pid", "started", "name"]
        assert row.split()[0] == str(os.getpid())
        assert row.split()[-1] == "train.py"
        assert json.loads(run("--json").output)["name"] == "train.py"


def test_a_process_without_a_session_is_refused():
    with closing(Publisher("train.py")), pytest.raises(UnknownNameError, match="Process 1 is no"):
        run(1)


def test_steps_are_printed_as_they_end():
    lines = streamed(Publisher("train.py"))
    assert lines[-2:] == [
        "step 1: 250 ms, 1 MiB allocated, 2 MiB peak, loss 0.5",
        "The session has ended.",
    ]


def test_json_is_one_object_a_line():
    step, end = map(json.loads, streamed(Publisher("train.py"), "--json")[-2:])
    assert step == {
        "event": "step",
        "step": 1,
        "seconds": 0.25,
        "bytes": 1 << 20,
        "peak_bytes": 1 << 21,
        "loss": 0.5,
    }
    assert end == {"event": "end"}
