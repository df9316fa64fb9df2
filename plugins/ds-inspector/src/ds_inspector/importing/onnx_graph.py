"""Graphs within ONNX files: subgraphs of If, Loop and Scan, and functions where they are called."""

from __future__ import annotations

from dataclasses import dataclass, field

from ds_core.errors import RefusedError
from ds_inspector.importing import limits
from ds_inspector.importing.graph import Graph
from ds_inspector.importing.naming import last_of, within
from ds_inspector.importing.onnx_nodes import Node, node_of
from ds_inspector.importing.onnx_values import (
    UNKNOWN,
    Value,
    Weight,
    sparse_weight_of,
    type_of,
    weight_of,
)
from ds_inspector.importing.protobuf import Wire

_HOPS = 4 * limits.DEPTH  # of a value through calls, which may go in circles


@dataclass(slots=True, eq=False)
class Scope:
    """Names of values: each graph and each call of a function has its own.

    Attributes:
        rows: Nodes by the values that they make.
        same: Values that are others' by another name.
    """

    outer: Scope | None = None
    rows: dict[bytes, int] = field(default_factory=dict)
    same: dict[bytes, tuple[Scope, bytes]] = field(default_factory=dict)
    values: dict[bytes, Value] = field(default_factory=dict)
    weights: dict[bytes, Weight] = field(default_factory=dict)
    inputs: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Function:
    """A FunctionProto."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[bytes] = field(default_factory=list)
    outputs: list[bytes] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    values: list[tuple[int, int]] = field(default_factory=list)


class Reader:
    """Reads the graphs of one file into one graph.

    Args:
        wire: The file.
        functions: The model's own, as ranges.
    """

    def __init__(self, wire: Wire, functions: list[tuple[int, int]]) -> None:
        self.wire = wire
        self.graph = Graph()
        self.problems: list[str] = []
        self.ends: list[tuple[str, Value]] = []
        self._types: dict[bytes, Value] = {}
        self._uses: list[tuple[Scope, bytes, int]] = []  # joined once all nodes are known
        self._expanded = 0
        self._functions: dict[tuple[str, str, str], Function] = {}
        for start, end in functions:
            function = self._function(start, end)
            self._functions[function.domain, function.name, function.overload] = function

    def read(self, start: int, end: int) -> Graph:
        """Read the model's graph."""
        scope = Scope()
        outputs = self._subgraph(start, end, scope, "", 0, None)
        self._uses += [(scope, value, -1) for value in outputs]
        self._join()
        return self.graph

    def _subgraph(
        self,
        start: int,
        end: int,
        scope: Scope,
        group: str,
        depth: int,
        given: tuple[Scope, list[bytes]] | None,
    ) -> list[bytes]:
        """Read a GraphProto into a scope and return the names of its outputs."""
        if depth > limits.DEPTH:
            raise limits.refuse("The graph has", limits.DEPTH, "graphs within each other")
        wire, nodes = self.wire, []
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        for number, a, b in wire.fields(start, end):
            if b < 0:
                continue
            if number == 1:
                nodes.append((a, b))
            elif number in (5, 15):
                name, weight = (weight_of if number == 5 else sparse_weight_of)(wire, a, b)
                scope.weights[name] = weight
            elif number in (11, 12, 13):
                name = self._value(a, b, scope)
                if number != 13:
                    (inputs if number == 11 else outputs).append(name)
        if given is None:
            scope.inputs.update(inputs)
        else:
            outer, names = given
            for inner, name in zip(inputs, names, strict=False):
                scope.same[inner] = (outer, name)
        for a, b in nodes:
            self._add(node_of(wire, a, b), scope, group, depth)
        return outputs

    def _add(self, node: Node, scope: Scope, group: str, depth: int, told: str = "") -> None:
        function = self._functions.get((node.domain, node.op, node.overload))
        module = within(group, node.module, told)
        if function is not None:
            room = self._expanded + len(function.nodes) <= limits.EXPANDED
            if room and depth < limits.DEPTH:
                self._call(node, function, scope, module, depth)
                return
            self._say("Functions that are called very often are shown as one node where they are.")
        value = scope.values.get(node.outputs[0], UNKNOWN) if node.outputs else UNKNOWN
        inner: list[tuple[Scope, list[bytes]]] = []
        here = within(module, last_of(node.name) or f"{node.op}_{self.graph.rows}")
        for name, start, end in node.graphs:
            body = Scope(outer=scope)
            given = None if node.op == "If" else (scope, node.inputs)
            outputs = self._subgraph(start, end, body, f"{here}.{name}", depth + 1, given)
            inner.append((body, outputs))
        row = self.graph.add(
            node.op or "?", node.name, module, *value, node.source, dict(node.attributes)
        )
        for output in node.outputs:
            if output:
                scope.rows[output] = row
        self._uses += [(scope, value, row) for value in node.inputs if value]
        for body, outputs in inner:
            self._uses += [(body, value, row) for value in outputs]

    def _call(self, node: Node, function: Function, scope: Scope, module: str, depth: int) -> None:
        """Put a function's nodes where it is called, in a group of their own."""
        self._expanded += len(function.nodes)
        body = Scope()
        for start, end in function.values:
            self._value(start, end, body)
        for inner, outer in zip(function.inputs, node.inputs, strict=False):
            if outer:
                body.same[inner] = (scope, outer)
        for inner, outer in zip(function.outputs, node.outputs, strict=False):
            if outer:
                scope.same[outer] = (body, inner)
                body.values.setdefault(inner, scope.values.get(outer, UNKNOWN))
        here = within(module, last_of(node.name) or f"{function.name}_{self.graph.rows}")
        for each in function.nodes:
            self._add(each, body, here, depth + 1)

    def _join(self) -> None:
        graph, seen = self.graph, set()
        for scope, value, target in self._uses:
            found, name = _origin(scope, value)
            if found is None:
                continue
            shape = found.values.get(name, UNKNOWN).shape
            label = limits.cut(name[: 4 * limits.NAME].decode(errors="replace"))
            if name in found.rows:
                graph.connect(found.rows[name], target, label, shape)
            elif name in found.weights:
                weight = found.weights[name]
                if (id(found), name) not in seen:
                    seen.add((id(found), name))
                    graph.weigh(target, weight.name, *weight.value, weight.bytes)
            elif name in found.inputs:
                graph.connect(-1, target, label, shape)

    def _value(self, start: int, end: int, scope: Scope) -> bytes:
        name, value = b"", UNKNOWN
        for number, a, b in self.wire.fields(start, end):
            if number == 1 and b >= 0:
                name = self.wire.data[a:b]
            elif number == 2 and b >= 0:
                key = self.wire.data[a:b]  # few types have many values
                known = self._types.get(key)
                if known is None:
                    known = self._types[key] = type_of(self.wire, a, b)
                value = known
        scope.values[name] = value
        return name

    def _function(self, start: int, end: int) -> Function:
        wire, function = self.wire, Function()
        for number, a, b in wire.fields(start, end):
            if b < 0:
                continue
            if number == 1:
                function.name = wire.text(a, b, 100)
            elif number == 4:
                function.inputs.append(wire.data[a:b])
            elif number == 5:
                function.outputs.append(wire.data[a:b])
            elif number == 7:
                function.nodes.append(node_of(wire, a, b))
            elif number == 10:
                function.domain = wire.text(a, b, 100)
            elif number == 12:
                function.values.append((a, b))
            elif number == 13:
                function.overload = wire.text(a, b, 100)
        return function

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _origin(scope: Scope | None, name: bytes) -> tuple[Scope | None, bytes]:
    """The scope that makes a value, and its name there."""
    for _ in range(_HOPS):
        if scope is None:
            break
        if name in scope.rows or name in scope.weights or name in scope.inputs:
            return scope, name
        if name in scope.same:
            scope, name = scope.same[name]
        else:
            scope = scope.outer
    return None, name


def graph_of(
    wire: Wire, start: int, end: int, functions: list[tuple[int, int]]
) -> tuple[Graph, list[str]]:
    """A GraphProto with the functions of its model; and what is not shown, a sentence each.

    Raises:
        DamagedError: It is no graph.
        RefusedError: It has more than is read.
    """
    reader = Reader(wire, functions)
    try:
        return reader.read(start, end), reader.problems
    except RecursionError:
        raise RefusedError("The graph has too many graphs within each other.") from None
