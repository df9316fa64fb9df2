"""Operators in ONNX files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ds_inspector.importing import limits
from ds_inspector.importing.naming import innermost, module_of
from ds_inspector.importing.onnx_values import attribute_of
from ds_inspector.importing.protobuf import Wire

_SCOPES = "pkg.torch.onnx.name_scopes"
_NAMESPACE = "namespace"
_STACK = "pkg.torch.onnx.stack_trace"
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")


@dataclass(slots=True)
class Node:
    """A NodeProto.

    Attributes:
        graphs: Ranges of the graphs in its attributes, with the names of these.
        module: As exporters say, or else as the name says.
    """

    op: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    graphs: list[tuple[str, int, int]] = field(default_factory=list)
    module: str = ""
    source: str = ""


def node_of(wire: Wire, start: int, end: int) -> Node:
    """Read one; what is not known is passed over."""
    node, data, notes = Node(), wire.data, None
    for number, a, b in wire.fields(start, end):
        if b < 0:
            continue
        if number == 1:
            node.inputs.append(data[a:b])
        elif number == 2:
            node.outputs.append(data[a:b])
        elif number == 3:
            node.name = wire.text(a, b)
        elif number == 4:
            node.op = wire.text(a, b, 100)
        elif number == 5:
            attribute = attribute_of(wire, a, b)
            if attribute.shown is not None:
                node.attributes[attribute.name] = attribute.shown
            for place, (c, d) in enumerate(attribute.graphs):
                suffix = f"_{place}" if place else ""
                node.graphs.append((f"{attribute.name}{suffix}", c, d))
        elif number == 7:
            node.domain = wire.text(a, b, 100)
        elif number == 8:
            node.overload = wire.text(a, b, 100)
        elif number == 9:
            notes = notes or {}
            key, value = _entry(wire, a, b)
            notes[key] = value
    if node.domain in ("ai.onnx",):
        node.domain = ""
    if node.domain:
        node.attributes["domain"] = node.domain
    node.module = _module(notes, node.name) if notes else module_of(node.name)
    if notes and _STACK in notes:
        node.source = innermost(notes[_STACK])
    return node


def _entry(wire: Wire, start: int, end: int) -> tuple[str, str]:
    key = value = ""
    for number, a, b in wire.fields(start, end):
        if number == 1 and b >= 0:
            key = wire.text(a, b, 100)
        elif number == 2 and b >= 0:
            value = wire.text(a, b, 10 * limits.TEXT)
    return key, value


def _module(notes: dict[str, str], name: str) -> str:
    """The last but one of the exporter's scopes; the last is the operator."""
    if scopes := notes.get(_SCOPES):
        found = [one or other for one, other in _QUOTED.findall(scopes)]
        return limits.cut(found[-2]) if len(found) > 1 else ""
    if namespace := notes.get(_NAMESPACE):
        parts = namespace.split("/")
        return limits.cut(parts[-2].partition(":")[0].strip()) if len(parts) > 1 else ""
    return module_of(name)
