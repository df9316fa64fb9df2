"""Graphs of TensorFlow, written byte by byte."""

import pytest
from ds_inspector.importing.opening import open_any
from wire import entry, graph_def, message, number, saved_model, shape, tf_node

from ds_core.errors import RefusedError

FLOAT = 1


@pytest.fixture
def open_bytes(tmp_path):
    def open_bytes(data):
        path = tmp_path / "graph.anything"
        path.write_bytes(data)
        return open_any(path)

    return open_bytes


def tensor(dtype, *dims, data=b""):
    return message(8, number(1, dtype), message(2, shape(*dims)), message(4, data))


def test_names_are_the_hierarchy(open_bytes):
    recording = open_bytes(
        graph_def(
            tf_node("net/dense/MatMul", "MatMul", "x", "net/dense/w", dtype=FLOAT, output=(-1, 8)),
            tf_node("x", "Placeholder", shape=message(7, shape(2, 4))),
            tf_node("net/dense/w", "Const", value=tensor(FLOAT, 4, 8, data=b"\0" * 128)),
            tf_node("out", "Identity", "net/dense/MatMul:0", "^x"),
        )
    )
    nodes = recording.nodes
    # In topological order, although they were not.
    assert list(nodes["name"]) == ["x", "net/dense/w", "net/dense/MatMul", "out"]
    assert list(nodes["module"]) == ["", "net.dense", "net.dense", ""]
    assert list(nodes["shape"]) == ["2x4", "4x8", "?x8", ""]
    assert nodes["dtype"][2] == "float32"
    edges = recording.edges
    assert sorted(zip(edges["source"].tolist(), edges["target"].tolist(), strict=True)) == [
        *((0, 2), (0, 3), (1, 2), (2, 3))
    ]
    tensors = recording.tensors
    assert (tensors["name"][0], tensors["bytes"].tolist(), tensors["kind"][0]) == (
        *("net/dense/w", [128]),
        "buffer",
    )


def test_loops_do_not_loop(open_bytes):
    recording = open_bytes(
        graph_def(
            tf_node("loop/Enter", "Enter", "start"),
            tf_node("loop/Merge", "Merge", "loop/Enter", "loop/NextIteration"),
            tf_node("loop/NextIteration", "NextIteration", "loop/Merge"),
            tf_node("loop/Exit", "Exit", "loop/Merge"),
            tf_node("start", "Const"),
        )
    )
    assert recording.nodes.rows == 5
    assert recording.edges.rows == 5
    names = list(recording.nodes["name"])
    assert names.index("start") < names.index("loop/Enter")


def function(name, argument, *nodes, returned):
    signature = message(1, message(1, name), message(2, message(1, argument)))
    body = [message(3, node) for node in nodes]
    return b"".join([signature, *body, entry(4, "result", returned)])


def test_functions_are_groups(open_bytes):
    body = function(
        *("__inference_f_1", "a"),
        tf_node("layer/Relu", "Relu", "a"),
        tf_node("layer/Neg", "Neg", "layer/Relu:activations:0"),
        returned="layer/Neg:y:0",
    )
    call = tf_node("call", "PartitionedCall", "x", f=message(10, message(1, "__inference_f_1")))
    recording = open_bytes(graph_def(tf_node("x", "Placeholder"), call, functions=[body]))
    nodes, edges = recording.nodes, recording.edges
    modules = dict(zip(nodes["name"], nodes["module"], strict=True))
    assert modules["layer/Relu"] == "functions.__inference_f_1.layer"
    assert "__inference_f_1" in nodes["attributes"][list(nodes["name"]).index("call")]
    names = [*nodes["name"], ""]
    found = {
        (names[source], names[target])
        for source, target in zip(edges["source"].tolist(), edges["target"].tolist(), strict=True)
    }
    assert found == {
        *(("x", "call"), ("", "layer/Relu"), ("layer/Relu", "layer/Neg"), ("layer/Neg", ""))
    }


def test_saved_models_in_their_folder(tmp_path):
    graph = graph_def(tf_node("a/b", "NoOp"))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(RefusedError, match=r"is a folder without a saved_model\.pb"):
        open_any(folder)
    (folder / "saved_model.pb").write_bytes(saved_model(graph, graph))
    recording = open_any(folder)
    assert list(recording.nodes["module"]) == ["a"]
    assert recording.about.origin == "tensorflow"
    assert "Of 2 graphs" in recording.about.problems[0]


def test_nodes_without_names(open_bytes):
    recording = open_bytes(graph_def(message(2, "Relu"), message(2, "Relu"), b""))
    assert list(recording.nodes["name"]) == ["Relu_0", "Relu_1", "?_2"]


def test_keras_needs_tensorflow(tmp_path, monkeypatch):
    import importlib.util
    import zipfile

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", "")
    with pytest.raises(RefusedError, match=r"pip install ds-inspector\[tensorflow\]"):
        open_any(tmp_path / "model.keras")
