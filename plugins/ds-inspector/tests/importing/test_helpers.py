"""Traces of which other processes decode most."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ds_inspector.importing import open_any
from ds_inspector.importing.trace import helpers
from ds_inspector.recording import Texts

from ds_core.errors import RefusedError


@pytest.fixture
def started(monkeypatch):
    """Files of any size are worth other processes, in small pieces; those that were started."""
    for name, value in {"_LARGE": 0, "_FIRST": 3000, "_BLOCK": 5000}.items():
        monkeypatch.setattr(f"ds_inspector.importing.trace.pieces.{name}", value)
    monkeypatch.setattr("ds_inspector.importing.trace.reading.cores", lambda: 2)
    found, popen = [], subprocess.Popen

    def start(*arguments, **options):
        process = popen(*arguments, **options)
        found.append(process)
        return process

    monkeypatch.setattr(helpers.subprocess, "Popen", start)
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


@pytest.fixture
def nested(tmp_path):
    """A trace in which cuts are wrong as often as they are right, and pairs are far apart."""
    events = []
    for number in range(600):
        inner = [{"a": {"b": number}}, {"c": [{"d": 1}, {"e": 2}]}] * (number % 3)
        event = {"ph": "X", "cat": "cpu_op", "name": f"op{number % 7}", "pid": 1, "tid": 2}
        event |= {"ts": 10 * number, "dur": 5 + number % 4}
        events.append({**event, "args": {"Sequence number": number, "list": inner}})
        half = {"ph": "BE"[number % 2], "cat": "python_function", "name": "f(3): g", "pid": 1}
        events.append({**half, "tid": 3, "ts": 10 * number})
    path = tmp_path / "nested.json"
    path.write_text(json.dumps({"traceEvents": events, "after": [{"x": 1}, {"y": 2}]}))
    return path


@pytest.mark.parametrize("which", ["trace", "plain_trace", "nested"])
def test_the_recording_is_the_same(which, request, monkeypatch):
    path = request.getfixturevalue(which)
    alone = open_any(path)
    started = request.getfixturevalue("started")
    assert_same(open_any(path), alone)
    assert len(started) == 2
    assert [process.wait(20) for process in started] == [0, 0]


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_without_them_it_is_read_here(program, trace, started, monkeypatch):
    expected = open_any(trace)
    monkeypatch.setattr(helpers.sys, "executable", program)
    assert_same(open_any(trace), expected)


def test_one_that_dies_is_done_without(trace, started, monkeypatch):
    expected = open_any(trace)
    result = helpers.pickle.loads

    def die(text):
        for process in started:
            process.kill()
        return result(text)

    monkeypatch.setattr(helpers.pickle, "loads", die)
    assert_same(open_any(trace), expected)


def test_they_end_with_a_file_that_is_refused(plain_trace, tmp_path, started):
    part = tmp_path / "part.json"
    part.write_bytes(plain_trace.read_bytes()[:-20_000])
    with pytest.raises(RefusedError, match="truncated"):
        open_any(part)
    assert [process.wait(20) for process in started] == [0, 0]


def test_they_end_with_who_asks(plain_trace, tmp_path):
    code = (
        "import os, sys; from ds_inspector.importing.trace.helpers import Helpers; "
        "texts = iter([memoryview(b'{}')]); "
        "print(next(Helpers(1).in_order(texts)).seen, flush=True); os._exit(0)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    assert done.stdout == b"1\n"  # the pipe is closed by the last who has it
