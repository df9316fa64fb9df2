"""Whatever is done to a file, it opens or is refused."""

import numpy as np
import onnx
import pytest
from ds_inspector.importing.opening import open_any
from ds_inspector.importing.protobuf import DamagedError, Wire, signed
from ds_inspector.recording import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from wire import entry, graph_def, message, number, saved_model, tf_node

from ds_core.errors import DsError


def _onnx():
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 3]) for each in "xy"]
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["z"], name="/a/in")], "g", [], ends)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/a/b/Conv", pads=[1, 2], text="s"),
        helper.make_node("If", ["a"], ["b"], then_branch=inner, else_branch=inner),
        helper.make_node("F", ["b"], ["y"], domain="local"),
    ]
    function = helper.make_function(
        "local", "F", ["p"], ["q"], [helper.make_node("Neg", ["p"], ["q"])], []
    )
    weight = onnx.numpy_helper.from_array(np.zeros((2, 3), "f"), "w")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, functions=[function]).SerializeToString()


def _tensorflow():
    body = message(1, message(1, "f"), message(2, message(1, "a"))) + message(
        3, tf_node("n", "Relu", "a")
    )
    nodes = [
        tf_node("x", "Placeholder", output=(-1, 3)),
        tf_node("a/b", "Relu", "x", "^c", dtype=1, k=number(3, 5), s=message(2, "text")),
        tf_node("c", "Const", value=message(8, number(1, 1), message(2, b""))),
    ]
    return graph_def(*nodes, functions=[body + entry(4, "r", "n:0")])


@pytest.fixture(scope="module")
def files(trace, plain_trace, profiled, program):
    """Valid files; those that are large only in part, which JSON cannot tell."""
    files = {"onnx": _onnx(), "graph": _tensorflow(), "model": saved_model(_tensorflow())}
    files |= {"program": program.read_bytes(), "packed": plain_trace.read_bytes()}
    whole = trace.read_bytes()
    at = whole.rindex(b"\n  },\n", 0, 60_000)
    files["trace"] = whole[: at + 4] + b"]}"
    whole = profiled.read_bytes()
    files["profile"] = whole[: whole.rindex(b",", 0, whole.index(b"\n", 20_000))] + b"]"
    return files


def check(path):
    """It opens as a recording that holds together, or is refused in one sentence."""
    recording, refused = None, ""
    try:
        recording = open_any(path)
    except DsError as error:
        refused = error.what
    if recording is None:
        assert refused.endswith(".")
        assert "\n" not in refused
        return None
    recording.save(path.with_suffix(".dsrec"))
    return load(path.with_suffix(".dsrec"))  # which checks all references


KINDS = ["onnx", "graph", "model", "program", "packed", "trace", "profile"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_changed_opens(files, tmp_path, kind):
    (tmp_path / "file").write_bytes(files[kind])
    recording = check(tmp_path / "file")
    assert recording is not None
    assert recording.nodes.rows or recording.events.rows


edits = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["flip", "cut", "insert", "repeat"]), st.binary(max_size=6)
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=edits)
def test_changed_bytes_open_or_are_refused(files, tmp_path, kind, edits):
    data = bytearray(files[kind])
    for where, how, more in edits:
        at = int(where * (len(data) - 1)) if data else 0
        if how == "flip":
            data[at : at + len(more)] = more
        elif how == "cut":
            del data[at : len(data) if len(more) > 3 else at + 3]
        elif how == "insert":
            data[at:at] = more
        else:
            data[at:at] = data[at : at + 40]
    (tmp_path / "file").write_bytes(data)
    check(tmp_path / "file")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_open_or_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    check(path)


fields = st.lists(
    st.tuples(st.integers(1, 2**20), st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40)),
    max_size=20,
)


@settings(deadline=None)
@given(fields)
def test_fields_are_read_as_they_were_written(written):
    data = b"".join(
        number(field, value) if isinstance(value, int) else message(field, value)
        for field, value in written
    )
    wire = Wire(data)
    found = [
        (field, signed(start) if end < 0 else data[start:end])
        for field, start, end in wire.fields(0, len(data))
    ]
    assert found == written


@settings(deadline=None)
@given(fields, st.integers(0, 400))
def test_messages_cut_within_a_field_are_damaged(written, cut):
    parts = [
        number(field, value) if isinstance(value, int) else message(field, value)
        for field, value in written
    ]
    data = b"".join(parts)
    cut = min(cut, len(data))
    wire = Wire(data)  # of which only a part is the message
    whole = [count for count in range(len(parts) + 1) if len(b"".join(parts[:count])) == cut]
    if whole:
        assert len(list(wire.fields(0, cut))) == whole[0]
    else:
        with pytest.raises(DamagedError):
            list(wire.fields(0, cut))


@pytest.mark.parametrize("name", ["missing", "folder", "empty", "pipe"])
def test_what_is_no_file(tmp_path, name):
    import os

    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DsError, match=name):
        open_any(tmp_path / name)
