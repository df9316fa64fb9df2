"""Nodes, edges and weights of a graph while it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ds_inspector.importing import limits
from ds_inspector.recording import Table

SIZES = {
    "complex128": 16.0,
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8.0),
    **dict.fromkeys(("float32", "int32", "uint32"), 4.0),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2.0),
    **dict.fromkeys(("uint4", "int4", "float4_e2m1"), 0.5),
    **dict.fromkeys(("uint2", "int2"), 0.25),
}
"""Bytes of an element by dtype; others have one."""


def size(dims: list[int], dtype: str) -> int:
    """Bytes of a dense tensor, at most what a column holds; 0 where a dimension is unknown."""
    total = SIZES.get(dtype, 1.0)
    for dim in dims:
        total *= max(dim, 0)
    return int(min(total, 2.0**62))


class Graph:
    """Collects rows; edges may name nodes before these are there."""

    def __init__(self) -> None:
        self.nodes: dict[str, list[Any]] = {
            name: [] for name in ("name", "op", "module", "shape", "dtype", "source", "attributes")
        }
        self.edges: dict[str, list[Any]] = {
            name: [] for name in ("source", "target", "label", "shape")
        }
        self.weights: dict[str, list[Any]] = {
            name: [] for name in ("name", "shape", "dtype", "bytes", "node", "kind")
        }

    @property
    def rows(self) -> int:
        """Nodes so far."""
        return len(self.nodes["name"])

    def add(
        self,
        op: str,
        name: str = "",
        module: str = "",
        shape: str = "",
        dtype: str = "",
        source: str = "",
        attributes: dict[str, Any] | None = None,
    ) -> int:
        """Add a node and return its row; one without a name is called by its operator and row.

        Raises:
            RefusedError: There are more than are read.
        """
        row = self.rows
        if row >= limits.NODES:
            raise limits.refuse("The graph has", limits.NODES, "nodes")
        nodes = self.nodes
        nodes["name"].append(name or f"{op}_{row}")
        nodes["op"].append(op)
        nodes["module"].append(module)
        nodes["shape"].append(shape)
        nodes["dtype"].append(dtype)
        nodes["source"].append(source)
        nodes["attributes"].append(attributes or {})
        return row

    def connect(self, source: int, target: int, label: str = "", shape: str = "") -> None:
        """Add an edge; -1 is what lies outside the graph."""
        edges = self.edges
        edges["source"].append(source)
        edges["target"].append(target)
        edges["label"].append(label)
        edges["shape"].append(shape)

    def weigh(
        self, node: int, name: str, shape: str, dtype: str, nbytes: int, kind: str = "parameter"
    ) -> None:
        """Add a weight that a node uses."""
        weights = self.weights
        values = (name, shape, dtype, nbytes, node, kind)
        for column, value in zip(weights, values, strict=True):
            weights[column].append(value)
        if node >= 0:
            used = self.nodes["attributes"][node].setdefault("weights", {})
            if len(used) < 20:
                used[name] = f"{dtype} {shape}".strip()

    def tables(self) -> dict[str, Table]:
        """The tables `nodes`, `edges` and `tensors`: weights are there from beginning to end."""
        nodes = {**self.nodes, "attributes": [_json(each) for each in self.nodes["attributes"]]}
        by_node = {
            column: [self.nodes[column][node] if node >= 0 else "" for node in self.weights["node"]]
            for column in ("module", "op", "source")
        }
        count = len(self.weights["name"])
        tensors = {
            **self.weights,
            **by_node,
            "born": np.zeros(count),
            "died": np.full(count, np.inf),
        }
        return {
            "nodes": Table("nodes", nodes),
            "edges": Table("edges", self.edges),
            "tensors": Table("tensors", tensors),
        }

    def sort(self) -> None:
        """Bring nodes into topological order; those in cycles, and what follows, keep theirs."""
        pairs = list(zip(self.edges["source"], self.edges["target"], strict=True))
        following: list[list[int]] = [[] for _ in range(self.rows)]
        waiting = [0] * self.rows
        for source, target in pairs:
            if source >= 0 and target >= 0:
                following[source].append(target)
                waiting[target] += 1
        order = [row for row in range(self.rows) if not waiting[row]]
        for row in order:  # grows while it is walked through
            for target in following[row]:
                waiting[target] -= 1
                if not waiting[target]:
                    order.append(target)
        done = set(order)
        order += [row for row in range(self.rows) if row not in done]
        place = [0] * self.rows + [-1]
        for new, old in enumerate(order):
            place[old] = new
        self.nodes = {name: [values[row] for row in order] for name, values in self.nodes.items()}
        for column in ("source", "target"):
            self.edges[column] = [place[row] for row in self.edges[column]]
        self.weights["node"] = [place[row] for row in self.weights["node"]]


def _json(attributes: dict[str, Any]) -> str:
    if not attributes:
        return ""
    return orjson.dumps(attributes, option=orjson.OPT_NON_STR_KEYS).decode()
