"""ONNX models. Weights are not read, wherever they are."""

from __future__ import annotations

from ds_inspector.importing.onnx_graph import graph_of
from ds_inspector.importing.protobuf import DamagedError, Wire
from ds_inspector.recording import Recording
from ds_inspector.recording.recording import About


def read(wire: Wire, size: int, title: str) -> Recording:
    """Read a ModelProto.

    Raises:
        DamagedError: It is none.
        RefusedError: It has more than is read.
    """
    graph, functions, opsets, producer = None, [], {}, ""
    for number, a, b in wire.fields(0, size):
        if b < 0:
            continue
        if number == 2:
            producer = wire.text(a, b, 100)
        elif number == 7:
            graph = (a, b)
        elif number == 8:
            domain, version = "", 0
            for field, c, d in wire.fields(a, b):
                if field == 1 and d >= 0:
                    domain = wire.text(c, d, 100)
                elif field == 2 and d < 0:
                    version = c
            opsets[domain or "ai.onnx"] = version
        elif number == 25:
            functions.append((a, b))
    if graph is None:
        raise DamagedError("it has no graph")
    found, problems = graph_of(wire, *graph, functions)
    about = About(title=title, origin="onnx", problems=problems)
    about.machine = {
        "producer": producer,
        "opsets": ", ".join(f"{domain} {version}" for domain, version in list(opsets.items())[:20]),
    }
    return Recording(about, found.tables())
