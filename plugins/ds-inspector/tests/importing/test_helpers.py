"""Traces of which other processes decode most."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ds_inspector.importing.opening import open_any
from ds_inspector.importing.trace import helpers
from ds_inspector.recording import Texts

from ds_core.errors import RefusedError


class Watched:
    """What helpers there were: processes, and the batches that they made, or None for each that
    they could not make."""

    def __init__(self):
        self.processes, self.batches = [], []


@pytest.fixture
def watched(monkeypatch):
    """Files of any size are worth other processes, in small pieces."""
    for name, value in {"_LARGE": 0, "_FIRST": 3000, "_BLOCK": 5000}.items():
        monkeypatch.setattr(f"ds_inspector.importing.trace.pieces.{name}", value)
    monkeypatch.setattr("ds_inspector.importing.trace.reading.cores", lambda: 2)
    found, popen, loads = Watched(), subprocess.Popen, helpers.pickle.loads

    def start(*arguments, **options):
        found.processes.append(popen(*arguments, **options))
        return found.processes[-1]

    def understand(answer):
        found.batches.append(loads(answer))
        return found.batches[-1]

    monkeypatch.setattr(helpers.subprocess, "Popen", start)
    monkeypatch.setattr(helpers.pickle, "loads", understand)
    return found


def columns(recording):
    return {
        (table.name, name): list(column) if isinstance(column, Texts) else np.asarray(column)
        for table in recording.tables.values()
        for name, column in table.items()
    }


def assert_same(one, other):
    one, other = columns(one), columns(other)
    for key, column in one.items():
        assert np.array_equal(column, other[key], equal_nan=isinstance(column, np.ndarray)), key


def written(path, between=", ", nested=False):
    """A trace with pairs that are far apart; if it is nested, cuts are wrong as often as right."""
    events = []
    for number in range(600):
        inner = [{"a": {"b": number}}, {"c": [{"d": 1}, {"e": 2}]}] * (number % 3)
        event = {"ph": "X", "cat": "cpu_op", "name": f"op{number % 7}", "pid": 1, "tid": 2}
        event |= {"ts": 10 * number, "dur": 5 + number % 4}
        arguments = {"Sequence number": number, "list": inner if nested else []}
        if number == 300:
            arguments["long"] = "x" * 20_000
        events.append({**event, "args": arguments})
        half = {"ph": "BE"[number % 2], "cat": "python_function", "name": "f(3): g", "pid": 1}
        events.append({**half, "tid": 3, "ts": 10 * number})
    listed = between.join(json.dumps(event) for event in events)
    path.write_text(f'{{"traceEvents": [{listed}], "after": [{{"x": 1}}, {{"y": 2}}]}}')
    return path


@pytest.mark.parametrize("which", ["trace", "plain_trace"])
def test_the_recording_is_the_same(which, request):
    path = request.getfixturevalue(which)
    alone = open_any(path)
    watched = request.getfixturevalue("watched")
    assert_same(open_any(path), alone)
    assert sum(batch.seen for batch in watched.batches) > 0.9 * alone.events.rows
    assert [process.wait(20) for process in watched.processes] == [0, 0]


@pytest.mark.parametrize("between", [", ", ",\n  ", " , ", "\n,\n"])
@pytest.mark.parametrize("nested", [False, True])
def test_wherever_it_is_cut(between, nested, tmp_path, request):
    path = written(tmp_path / "trace.json", between, nested)
    alone = open_any(path)
    assert alone.events.rows == 900
    watched = request.getfixturevalue("watched")
    assert_same(open_any(path), alone)
    assert nested or sum(batch is not None for batch in watched.batches) > 10
    assert [process.wait(20) for process in watched.processes] == [0, 0]


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", "/bin/cat", None])
def test_without_them_it_is_read_here(program, trace, watched, monkeypatch):
    expected = open_any(trace)
    monkeypatch.setattr(helpers.sys, "executable", program)
    assert_same(open_any(trace), expected)


def test_those_that_die_are_done_without(trace, watched, monkeypatch):
    expected = open_any(trace)
    loads = helpers.pickle.loads

    def die(answer):
        for process in watched.processes:
            process.kill()
        return loads(answer)

    monkeypatch.setattr(helpers.pickle, "loads", die)
    assert_same(open_any(trace), expected)


def test_they_end_with_a_file_that_is_refused(tmp_path, watched):
    path = written(tmp_path / "trace.json")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(RefusedError, match="truncated or no JSON"):
        open_any(path)
    assert [process.wait(20) for process in watched.processes] == [0, 0]


def test_nothing_in_the_folder_is_executed(tmp_path, watched, monkeypatch):
    path = written(tmp_path / "trace.json")
    (tmp_path / "orjson.py").write_text("open('executed', 'w')")
    monkeypatch.chdir(tmp_path)
    open_any(path)
    assert any(watched.batches)
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_they_end_with_who_asks():
    code = """
import glob, os
from ds_inspector.importing.trace.helpers import Helpers
next(Helpers(1).in_order(iter([memoryview(b'{}')] * 2)))
print(*[open(one).read() for one in glob.glob('/proc/self/task/*/children')], flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    (process,) = done.stdout.split()
    until = time.monotonic() + 20
    while _runs(Path("/proc", process)):
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(process):
    try:
        return "zombie" not in (process / "status").read_text()
    except OSError:
        return False
