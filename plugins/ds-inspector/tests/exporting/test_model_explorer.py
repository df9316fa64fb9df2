"""Graphs for Model Explorer."""

import json

import pytest
from ds_inspector.exporting import export
from ds_inspector.recording import Recording
from ds_inspector.recording.recording import About

from ds_core.errors import RefusedError


def test_graph_and_data_of_its_nodes(full, tmp_path):
    paths = export(full, "model-explorer", tmp_path / "graph.json")
    assert [path.name for path in paths] == [
        *("graph.json", "graph.seconds.json"),
        "graph.bytes.json",
    ]
    (graph,) = json.loads(paths[0].read_text())
    first, second = graph["nodes"]
    assert (first["label"], first["namespace"]) == ("aten::mm", "net/0")
    assert {"key": "alpha", "value": "1"} in first["attrs"]
    assert first["incomingEdges"] == []
    assert second["incomingEdges"] == [
        {"sourceNodeId": first["id"], "sourceNodeOutputId": "0", "targetNodeInputId": "0"}
    ]
    assert first["outputsMetadata"][0]["attrs"][0] == {"key": "shape", "value": "2x2"}
    # Every value is text, as the format wants it.
    assert all(isinstance(pair["value"], str) for node in graph["nodes"] for pair in node["attrs"])
    seconds = json.loads(paths[1].read_text())[graph["id"]]
    assert seconds["results"].keys() <= {node["id"] for node in graph["nodes"]}
    assert seconds["results"][first["id"]]["value"] > 0


def test_no_graph(tmp_path):
    about = About(title="", origin="trace", problems=["There is none."])
    with pytest.raises(RefusedError, match=r"has no graph\. There is none\."):
        export(Recording(about), "model-explorer", tmp_path / "out.json")
