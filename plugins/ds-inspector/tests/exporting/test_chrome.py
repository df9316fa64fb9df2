"""Traces for Perfetto."""

import json

import numpy as np
import pytest
from ds_inspector.exporting import export
from ds_inspector.importing.opening import open_any
from ds_inspector.recording import Recording, Texts
from ds_inspector.recording.recording import About
from hypothesis import given, settings
from hypothesis import strategies as st
from made import recording_of

from ds_core.errors import RefusedError

LOST = {"node"}  # is written by the node's name, which a trace has no table for


def same(before, after):
    for column in before:
        if column in LOST:
            continue
        if isinstance(before[column], Texts):
            assert list(before[column]) == list(after[column]), column
        else:
            one, other = before[column], after[column]
            assert np.allclose(one, other, rtol=0, atol=1e-9, equal_nan=True), column


def test_what_is_written_is_read_again(full, tmp_path):
    assert export(full, "chrome", tmp_path / "out.json") == [tmp_path / "out.json"]
    again = open_any(tmp_path / "out.json")
    same(full.events, again.events)
    same(full.steps, again.steps)
    assert again.usage["bytes"].tolist() == [100.0, 150.0]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_names_times_and_nesting_are_kept(data, tmp_path_factory):
    rows = data.draw(
        st.lists(
            st.tuples(*(st.integers(0, top) for top in (2, 40, 20, 5))), min_size=1, max_size=40
        )
    )
    recording = recording_of(rows)
    path = tmp_path_factory.getbasetemp() / "round.json.gz"
    export(recording, "chrome", path, force=True)
    found = open_any(path).events

    def told(events):
        columns = (
            events["lane"],
            np.round(events["start"] * 1e9).tolist(),
            np.round(events["duration"] * 1e9).tolist(),
            events["name"],
            events["module"],
            events["source"],
        )
        return sorted(zip(*columns, strict=True))

    def nested(events):
        parent = events["parent"]
        inner = np.flatnonzero(parent >= 0)
        return sorted(
            (events["lane"][row], events["start"][row], events["start"][parent[row]])
            for row in inner.tolist()
        )

    assert told(found) == told(recording.events)
    assert np.allclose(
        [row[1:] for row in nested(found)] or [0],
        [row[1:] for row in nested(recording.events)] or [0],
        rtol=0,
        atol=1e-9,
    )


def test_arrows_counters_and_arguments(full, tmp_path):
    export(full, "chrome", tmp_path / "out.json")
    events = json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    kernel = next(event for event in events if event["name"] == "gemm<float>")
    operator = next(event for event in events if event["name"] == "aten::mm")
    arrow = {event["ph"]: event for event in events if event["ph"] in "sf"}
    for phase, end in (("s", operator), ("f", kernel)):
        assert [arrow[phase][key] for key in ("pid", "tid", "ts")] == [
            end[key] for key in ("pid", "tid", "ts")
        ]
    assert arrow["s"]["id"] == arrow["f"]["id"]
    assert operator["args"]["module"] == "net.0"
    assert operator["args"]["source"] == "model.py:3"
    assert operator["args"]["node"] == "mm"
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["name"] == "thread_name"
    }
    assert threads[kernel["pid"], kernel["tid"]] == "cuda:0 stream 7"
    counted = [event for event in events if event["ph"] == "C" and event["name"] == "tensors"]
    assert [(event["ts"], event["args"]) for event in counted] == [
        (0.0, {"parameter": 100.0, "activation": 0.0}),
        (1000.0, {"parameter": 100.0, "activation": 20.0}),
        (2000.0, {"parameter": 100.0, "activation": 50.0}),
        (3000.0, {"parameter": 100.0, "activation": 30.0}),
        (5000.0, {"parameter": 100.0, "activation": 0.0}),
    ]


def test_nothing_to_write(tmp_path):
    with pytest.raises(RefusedError, match="has no events"):
        export(Recording(About(title="", origin="onnx")), "chrome", tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []
