"""Profiles of onnxruntime."""

import json

import numpy as np
import pytest
from ds_inspector.importing.opening import open_any
from onnx import helper

from ds_core.errors import RefusedError


def events_of(path):
    return [event for event in json.loads(path.read_text()) if event.get("cat") == "Node"]


def test_profile_alone(profiled):
    recording, told = open_any(profiled), events_of(profiled)
    events = recording.events
    is_node = events.texts("kind").equal("operator")
    assert is_node.sum() == len(told)
    total = sum(event["dur"] for event in told) / 1e6
    assert events["duration"][is_node].sum() == pytest.approx(total, abs=1e-9)
    assert recording.steps.rows == 3
    assert set(np.unique(events["step"][is_node])) == {0, 1, 2}
    assert set(events.texts("phase").take(is_node)) == {"forward"}
    runs = [row for row, name in enumerate(events["name"]) if name == "model_run"]
    # Each operator lies within a run.
    parents = set(events["parent"][is_node].tolist())
    assert {int(events["parent"][row]) for row in parents} == set(runs)
    assert recording.about.origin == "onnxruntime"


def test_joined_to_its_model(exported, profiled):
    recording = open_any(exported, profile=profiled)
    events, nodes = recording.events, recording.nodes
    is_node = events.texts("kind").equal("operator")
    found = events["node"][is_node]
    matched = [nodes["name"][row] for row in found[found >= 0].tolist()]
    told = [event["name"].removesuffix("_kernel_time") for event in events_of(profiled)]
    names = set(nodes["name"])
    # All that ran under their names, and what was made of them, as `node_MatMul_9/...Fusion`.
    assert sorted(name for name in matched if name in told) == sorted([*(names & set(told))] * 3)
    fused = [name.partition("/")[0] for name in told if "/" in name]
    assert sorted(name for name in matched if name not in told) == sorted(fused)
    for row in np.flatnonzero(is_node & (events["node"] >= 0)).tolist():
        node = int(events["node"][row])
        assert events["module"][row] == nodes["module"][node]
        assert events["source"][row] == nodes["source"][node]
    assert recording.edges.rows == open_any(exported).edges.rows > 0
    # What onnxruntime made is said to have no node, and how much it is.
    assert (events["node"][~is_node] == -1).all()
    share = events["duration"][is_node & (events["node"] < 0)].sum()
    share /= events["duration"][is_node].sum()
    assert f"{share:.1%}" in recording.about.problems[0]


def test_flops_of_products(exported, profiled):
    events = open_any(exported, profile=profiled).events
    gemm = {
        (shapes, flops)
        for name, shapes, flops in zip(
            events["name"], events["shapes"], events["flops"].tolist(), strict=True
        )
        if name == "Gemm"
    }
    # (2*16)x32 by 32x128
    assert {flops for shapes, flops in gemm if shapes.endswith(", 128")} == {2 * 32 * 32 * 128}


def node_event(name, op="Relu", ts=1, **more):
    given = {"op_name": op, "node_index": "0", **more}
    return {"cat": "Node", "ph": "X", "name": name, "ts": ts, "dur": 5, "tid": 1, "args": given}


def write(path, events):
    path.write_text("[\n" + ",\n".join(json.dumps(event) for event in events) + "\n]")
    return path


def test_names_that_several_nodes_have_are_told_by_their_place(save_onnx, tmp_path):
    model = save_onnx(
        [
            helper.make_node("Relu", ["x"], ["a"], name="same"),
            helper.make_node("Relu", ["a"], ["y"], name="same"),
        ]
    )
    events = [node_event("same_kernel_time", node_index=place, ts=9) for place in ("1", "7")]
    recording = open_any(model, profile=write(tmp_path / "p.json", events))
    assert sorted(recording.events["node"].tolist()) == [-1, 1]


def test_shapes_that_the_model_does_not_tell_are_those_that_ran(save_onnx, tmp_path):
    model = save_onnx(
        [
            helper.make_node("Relu", ["x"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["y"], name="second"),
        ]
    )
    event = node_event("first_kernel_time", output_type_shape=[{"float": [7, 9]}])
    recording = open_any(model, profile=write(tmp_path / "p.json", [event]))
    assert list(recording.nodes["shape"]) == ["7x9", "2x3"]
    assert recording.nodes["dtype"][0] == "float32"


def test_nonsense_in_a_profile_is_counted(tmp_path):
    events = [
        node_event("a"),
        {**node_event("b"), "ts": -1e300},
        {**node_event("c"), "dur": "x"},
        {**node_event("d"), "name": 7},
        node_event("e", input_type_shape=[{"float": ["x"]}, 3], node_index={}),
    ]
    recording = open_any(write(tmp_path / "p.json", events))
    assert recording.events.rows == 2
    assert "3 events" in recording.about.problems[0]


def test_what_does_not_fit_is_refused(exported, profiled, trace, program):
    with pytest.raises(RefusedError, match="is no profile of onnxruntime"):
        open_any(exported, profile=trace)
    with pytest.raises(RefusedError, match="is no ONNX model"):
        open_any(program, profile=profiled)
