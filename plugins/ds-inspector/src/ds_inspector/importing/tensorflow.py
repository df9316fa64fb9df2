"""GraphDef and SavedModel of TensorFlow, by their wire format.

The schema: https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core/framework, in
graph.proto, node_def.proto, attr_value.proto and function.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ds_inspector.importing import limits
from ds_inspector.importing.graph import Graph, size
from ds_inspector.importing.naming import last_of, module_of, within
from ds_inspector.importing.protobuf import DamagedError, Wire
from ds_inspector.importing.tensorflow_values import Attributes, attributes_of
from ds_inspector.recording import Recording
from ds_inspector.recording.recording import About

_SOURCES = ("VarHandleOp", "Variable", "VariableV2")
Range = tuple[int, int]


@dataclass(slots=True)
class _Node:
    name: str = ""
    op: str = ""
    device: str = ""
    inputs: list[bytes] = field(default_factory=list)
    attributes: Attributes = field(default_factory=Attributes)


def read_graph(wire: Wire, size: int, title: str) -> Recording:
    """Read a GraphDef.

    Raises:
        DamagedError: It is none.
        RefusedError: It has more than is read.
    """
    return _recording(wire, (0, size), About(title=title, origin="tensorflow"))


def read_saved_model(wire: Wire, size: int, title: str) -> Recording:
    """Read the first graph of a SavedModel.

    Raises:
        DamagedError: It has none.
        RefusedError: It has more than is read.
    """
    graphs = []
    for number, a, b in wire.fields(0, size):
        if number == 2 and b >= 0:  # MetaGraphDef
            graphs += [(c, d) for one, c, d in wire.fields(a, b) if one == 2 and d >= 0]
    if not graphs:
        raise DamagedError("it has no graph")
    about = About(title=title, origin="tensorflow")
    if len(graphs) > 1:
        about.problems.append(f"Of {len(graphs)} graphs in it this is the first.")
    return _recording(wire, graphs[0], about)


def _recording(wire: Wire, where: Range, about: About) -> Recording:
    graph, nodes, functions = Graph(), [], []
    for number, a, b in wire.fields(*where):
        if number == 1 and b >= 0:
            nodes.append((a, b))
        elif number == 2 and b >= 0:  # FunctionDefLibrary
            functions += [(c, d) for one, c, d in wire.fields(a, b) if one == 1 and d >= 0]
    if not nodes and not functions:
        raise DamagedError("it has no nodes")
    _add(wire, graph, nodes, "", {})
    for start, end in functions:
        _function(wire, graph, start, end)
    graph.sort()
    return Recording(about, graph.tables())


def _add(
    wire: Wire, graph: Graph, nodes: list[Range], group: str, given: dict[bytes, int]
) -> dict[bytes, int]:
    """Add nodes to a group, joined by their names; these with the rows are returned."""
    rows, uses = dict(given), []
    for start, end in nodes:
        node, name = _node(wire, start, end)
        told = node.attributes
        shown: dict[str, Any] = dict(told.shown)
        if node.device:
            shown["device"] = node.device
        row = graph.add(
            node.op or "?",
            node.name,
            within(group, module_of(node.name)),
            told.shape,
            told.dtype,
            "",
            shown,
        )
        rows[name] = row
        uses.append((row, node.inputs))
        if node.op == "Const" or node.op in _SOURCES:
            kind = "buffer" if node.op == "Const" else "parameter"
            dims = [int(dim) for dim in told.shape.split("x") if dim.isdigit()]
            nbytes = size(dims, told.dtype)
            graph.weigh(row, node.name, told.shape, told.dtype, nbytes, kind)
    shapes = graph.nodes["shape"]
    for row, inputs in uses:
        for name in inputs:
            # As `node`, `node:1`, in functions `node:output:0`, and `^node` where it only waits.
            source = rows.get(name.removeprefix(b"^").partition(b":")[0])
            if source is not None:
                waits = name.startswith(b"^")
                label = limits.cut(name[: 4 * limits.NAME].decode(errors="replace"))
                graph.connect(source, row, label, "" if waits or source < 0 else shapes[source])
    return rows


def _function(wire: Wire, graph: Graph, start: int, end: int) -> None:
    """Add a FunctionDef as a group; what is given to it comes from outside."""
    name, arguments, nodes, returned = "", [], [], []
    for number, a, b in wire.fields(start, end):
        if b < 0:
            continue
        if number == 1:  # its signature: name, then its arguments
            for one, c, d in wire.fields(a, b):
                if one == 1 and d >= 0:
                    name = wire.text(c, d)
                elif one == 2 and d >= 0:
                    arguments += [
                        wire.data[e:f] for n, e, f in wire.fields(c, d) if n == 1 and f >= 0
                    ]
        elif number == 3:
            nodes.append((a, b))
        elif number == 4:  # from the name of a result to the value
            returned += [wire.data[c:d] for one, c, d in wire.fields(a, b) if one == 2 and d >= 0]
    group = within("functions", last_of(name).replace(".", "_") or f"function_{graph.rows}")
    rows = _add(wire, graph, nodes, group, dict.fromkeys(arguments, -1))
    for value in returned:
        row = rows.get(value.partition(b":")[0], -1)
        if row >= 0:
            graph.connect(row, -1, limits.cut(value[: 4 * limits.NAME].decode(errors="replace")))


def _node(wire: Wire, start: int, end: int) -> tuple[_Node, bytes]:
    node, name, ranges = _Node(), b"", []
    for number, a, b in wire.fields(start, end):
        if b < 0:
            continue
        if number == 1:
            node.name, name = wire.text(a, b), wire.data[a:b]
        elif number == 2:
            node.op = wire.text(a, b, 100)
        elif number == 3:
            node.inputs.append(wire.data[a:b])
        elif number == 4:
            node.device = wire.text(a, b, 100)
        elif number == 5:
            ranges.append((a, b))
    node.attributes = attributes_of(wire, ranges)
    return node, name
