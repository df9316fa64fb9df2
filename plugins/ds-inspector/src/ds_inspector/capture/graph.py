"""The graph of a model's operators."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ds_inspector.capture.lines import Lines
from ds_inspector.recording import Table

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torch.nn import Module

_LONGEST = 200
"""Characters of an attribute's text."""

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass
class Graph:
    """Nodes and edges of a model, and what stood in the way of them."""

    nodes: Table = field(default_factory=lambda: Table("nodes"))
    edges: Table = field(default_factory=lambda: Table("edges"))
    problems: list[str] = field(default_factory=list)


def graph_of(
    model: Module, args: tuple[Any, ...], kwargs: dict[str, Any], lines: Lines | None = None
) -> Graph:
    """Export a model, or trace it where it cannot be exported.

    The model is not run on values: torch.export follows it with tensors that have none.

    Args:
        model: Not wrapped.
        args: Positional arguments of one forward.
        kwargs: The others.
        lines: Finds the user's lines.

    Returns:
        A graph without nodes where the model can neither be exported nor traced; its problems say
        why.
    """
    problems = []
    try:
        program = _exported(model, args, kwargs)
    except Exception as error:  # whatever user code raises when it is traced
        problems.append(f"torch.export cannot follow {type(model).__name__}: {first_line(error)}.")
    else:
        return _read(program, lines or Lines(model), problems)
    try:
        traced = _traced(model)
    except Exception as error:
        problems.append(f"Nor can torch.fx trace it: {first_line(error)}. There is no graph.")
        return Graph(problems=problems)
    problems.append("The graph was traced by torch.fx instead; it has no shapes.")
    return _read(traced, lines or Lines(model), problems)


def first_line(error: BaseException) -> str:
    """What an error says, in one line without a full stop."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.strip().rstrip(".")[:300]


def _exported(model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> GraphModule:
    import contextlib
    import io
    import logging
    import warnings

    import torch

    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        said = io.StringIO()  # torch prints graphs that it cannot finish
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("ignore")
            program = torch.export.export(model, args, kwargs, strict=False)
            return cast("GraphModule", program.graph_module)
    finally:
        logger.setLevel(level)


def _traced(model: Module) -> GraphModule:
    import torch

    return torch.fx.symbolic_trace(model)


class _Reader:
    """Collects the operators of a graph and of the graphs within it."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.nodes: dict[str, list[str]] = {
            name: [] for name in ("name", "op", "module", "shape", "dtype", "source", "attributes")
        }
        self.edges: list[tuple[int, int, str, str]] = []
        self._above: list[str] = []

    def read(self, owner: Any, inputs: list[set[int]]) -> list[set[int]]:
        """Append the operators of a graph.

        Args:
            owner: Holds the graph and the graphs within it.
            inputs: The operators that each placeholder's value comes from.

        Returns:
            The same of each output.
        """
        made: dict[Any, set[int]] = {}  # operators that a value comes from
        places = iter(inputs)
        outputs: list[set[int]] = []
        for node in owner.graph.nodes:
            if node.op == "placeholder":
                made[node] = next(places, set())
            elif node.op == "output":
                outputs = [made.get(value, set()) for value in node.all_input_nodes]
            elif node.op == "get_attr":
                made[node] = set()
            else:
                made[node] = self._operator(owner, node, made)
        return outputs

    def _operator(self, owner: Any, node: Node, made: dict[Any, set[int]]) -> set[int]:
        inner = [value for value in node.all_input_nodes if _is_graph(owner, value)]
        if inner:  # as under autocast: the operators within, not what holds them
            found: list[set[int]] = []
            given = [made.get(value, set()) for value in node.all_input_nodes if value not in inner]
            before = self._above
            self._above = _modules(node) or before
            for value in inner:
                found += self.read(_attribute(owner, str(value.target)), given)
            self._above = before
            return set().union(*found) if found else set()
        if node.target.__class__.__name__ == "builtin_function_or_method" and (
            getattr(node.target, "__name__", "") == "getitem"
        ):
            return set().union(*(made.get(value, set()) for value in node.all_input_nodes))
        row = len(self.nodes["name"])
        shape, dtype = _meaning(node)
        texts = {
            "name": node.name,
            "op": _title(owner, node),
            "module": (_modules(node) or self._above or [""])[-1],
            "shape": shape,
            "dtype": dtype,
            "source": self._source(node),
            "attributes": _attributes(node),
        }
        for column, text in texts.items():
            self.nodes[column].append(text)
        for value in node.all_input_nodes:
            label_shape = _meaning(value)[0]
            for maker in sorted(made.get(value, set())):
                self.edges.append((maker, row, value.name, label_shape))
        return {row}

    def _source(self, node: Node) -> str:
        frames = _FRAME.findall(node.meta.get("stack_trace") or "")
        return self._lines.of_places((path, int(line)) for path, line in reversed(frames))


def _read(module: GraphModule, lines: Lines, problems: list[str]) -> Graph:
    reader = _Reader(lines)
    reader.read(module, [])
    sources, targets, labels, shapes = zip(*reader.edges, strict=True) if reader.edges else [()] * 4
    edges = {"source": sources, "target": targets, "label": labels, "shape": shapes}
    return Graph(Table("nodes", reader.nodes), Table("edges", edges), problems)


def _modules(node: Node) -> list[str]:
    """Qualified names of the modules whose forwards a node lies within, the innermost last."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [_qualified(entry[0]) for entry in stack.values()]
    if not names and node.op == "call_module":
        names = [str(node.target)]
    return names


def _qualified(path: str) -> str:
    path = re.sub(r"^L\['self'\]\.?", "", path)
    path = re.sub(r"@\d+$", "", path)  # called again
    return re.sub(r"_modules\['([^']+)'\]|\['([^']+)'\]", r"\1\2", path)


def _is_graph(owner: Any, node: Node) -> bool:
    return node.op == "get_attr" and hasattr(_attribute(owner, str(node.target)), "graph")


def _attribute(owner: Any, path: str) -> Any:
    for part in path.split("."):
        owner = getattr(owner, part, None)
    return owner


def _title(owner: Any, node: Node) -> str:
    if node.op == "call_module":
        return type(_attribute(owner, str(node.target))).__name__
    if node.op == "call_method":
        return f"aten::{node.target}"
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return str(schema.name)
    name = str(getattr(node.target, "__name__", node.target))
    return f"aten::{name}" if _is_operator(name) else name


def _is_operator(name: str) -> bool:
    import torch

    return name.isidentifier() and hasattr(torch.ops.aten, name)


def _meaning(node: Node) -> tuple[str, str]:
    """Shape and dtype of a node's first output."""
    value: Any = node.meta.get("val")
    while isinstance(value, list | tuple) and value:
        value = value[0]
    if not hasattr(value, "shape"):
        return "", ""
    return "x".join(map(str, value.shape)), str(value.dtype).removeprefix("torch.")


def _attributes(node: Node) -> str:
    """Arguments that are no values of the graph, by their names in the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    found: dict[str, Any] = {}
    for place, value in enumerate(node.args):
        if isinstance(value, bool | int | float | str | list | tuple) and not _values_in(value):
            name = names[place] if place < len(names) else str(place)
            found[name] = value if isinstance(value, bool | int | float) else str(value)[:_LONGEST]
    for name, value in node.kwargs.items():
        if value is not None and not _values_in(value):
            found[name] = value if isinstance(value, bool | int | float) else str(value)[:_LONGEST]
    return json.dumps(found, default=str) if found else ""


def _values_in(value: Any) -> bool:
    import torch

    if isinstance(value, list | tuple):
        return any(_values_in(item) for item in value)
    return isinstance(value, torch.fx.Node)
