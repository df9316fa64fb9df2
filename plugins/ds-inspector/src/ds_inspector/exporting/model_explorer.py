"""Graphs and data of nodes for Model Explorer: https://github.com/google-ai-edge/model-explorer/wiki."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ds_core.errors import RefusedError
from ds_inspector.analysis.weights import weights
from ds_inspector.exporting.writing import Outputs
from ds_inspector.recording import Recording

_GRADIENT = [{"stop": 0, "bgColor": "#fff5eb"}, {"stop": 1, "bgColor": "#d94801"}]


def write(recording: Recording, path: Path, outputs: Outputs) -> None:
    """Write the graph, and beside it the nodes' seconds and bytes where they are known."""
    nodes = recording.nodes
    if not nodes.rows:
        raise RefusedError("The recording has no graph.", mend=" ".join(recording.about.problems))
    title = recording.about.title or "graph"
    with outputs.file(path) as file:
        file.write(orjson.dumps([{"id": title, "nodes": _nodes(recording)}]))
    known = weights(recording)
    for name, values in (("seconds", known.seconds), ("bytes", known.bytes)):
        rows = np.flatnonzero(np.isfinite(values))
        if len(rows):
            results = {str(row): {"value": float(values[row])} for row in rows.tolist()}
            data = {title: {"results": results, "gradient": _GRADIENT}}
            with outputs.file(beside(path, name)) as file:
                file.write(orjson.dumps(data))


def beside(path: Path, name: str) -> Path:
    """Where the data of nodes goes: `graph.seconds.json` for `graph.json`."""
    suffixes = ".gz" if path.suffix == ".gz" else ""
    stem = Path(path.name.removesuffix(suffixes)).stem
    return path.with_name(f"{stem}.{name}.json{suffixes}")


def _nodes(recording: Recording) -> list[dict[str, Any]]:
    nodes, edges = recording.nodes, recording.edges
    found: list[dict[str, Any]] = []
    columns = ("name", "op", "module", "shape", "dtype", "source", "attributes")
    for row, values in enumerate(zip(*(nodes.texts(name) for name in columns), strict=True)):
        name, op, module, shape, dtype, source, attributes = values
        told = {"name": name, "source": source, **_attributes(attributes)}
        output = {"shape": shape, "dtype": dtype}
        found.append(
            {
                "id": str(row),
                "label": op or name,
                "namespace": module.replace("/", "_").replace(".", "/"),
                "attrs": _pairs(told),
                "incomingEdges": [],
                "outputsMetadata": [{"id": "0", "attrs": _pairs(output)}],
            }
        )
    pairs = zip(edges.numbers("source").tolist(), edges.numbers("target").tolist(), strict=True)
    for source_row, target in pairs:
        if source_row >= 0 and target >= 0:
            incoming = found[target]["incomingEdges"]
            incoming.append(
                {
                    "sourceNodeId": str(source_row),
                    "sourceNodeOutputId": "0",
                    "targetNodeInputId": str(len(incoming)),
                }
            )
    return found


def _attributes(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _pairs(values: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"key": key, "value": value if isinstance(value, str) else orjson.dumps(value).decode()}
        for key, value in values.items()
        if value not in ("", None)
    ]
