"""Programs of torch.export by the JSON in their archive, of the schema in torch._export.serde."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ds_core.errors import RefusedError
from ds_inspector.importing import limits
from ds_inspector.importing.graph import Graph, size
from ds_inspector.importing.naming import innermost, within
from ds_inspector.recording import Recording
from ds_inspector.recording.recording import About

_DTYPES = {
    **dict(enumerate(("", "uint8", "int8", "int16", "int32", "int64", "float16", "float32"))),
    **{8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool"},
    **{13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2"},
    **{31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu"},
    **{34: "uint32", 35: "uint64"},
}
_SYMBOL = re.compile(r"Symbol\('(\w{1,20})'.*\)")
_KINDS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": ""}
_NAMED = ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_bool", "as_sym_float")
_LISTS = ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_bools", "as_sym_floats")


def read(program: Any, path: Path) -> Recording:
    """Read an exported program.

    Raises:
        RefusedError: The JSON is not of the schema, or has more than is read.
    """
    reader = _Reader()
    try:
        module = program["graph_module"]
        reader.weights(module["graph"], module.get("signature") or {})
        reader.graph(module["graph"], "", 0)
        version = str(program.get("torch_version") or "")[:60]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise RefusedError(
            f"{path} has a program that torch.export did not write like this: {error!r:.100}."
        ) from error
    about = About(title=path.name, origin="torch", machine={"torch": version} if version else {})
    return Recording(about, reader.found.tables())


class _Reader:
    def __init__(self) -> None:
        self.found = Graph()
        self._weights: dict[str, tuple[str, str, str, int, str]] = {}
        self._used: set[str] = set()

    def weights(self, graph: Any, signature: Any) -> None:
        """Names that inputs stand for: parameters and buffers."""
        for each in signature.get("input_specs") or []:
            for kind, spec in each.items():
                if kind in _KINDS:
                    name = str(spec.get(_KINDS[kind]) or spec.get("tensor_constant_name") or "")
                    value = spec["arg"]["name"]
                    shape, dtype, nbytes = _meta(graph["tensor_values"].get(value))
                    told = "buffer" if kind != "parameter" else "parameter"
                    self._weights[value] = (limits.cut(name), shape, dtype, nbytes, told)

    def graph(
        self, graph: Any, group: str, depth: int, given: list[int] | None = None
    ) -> list[int]:
        """Add a graph's nodes and return the rows that make its outputs."""
        if depth > limits.DEPTH:
            raise limits.refuse("The program has", limits.DEPTH, "graphs within each other")
        values, metas = {}, graph["tensor_values"]
        inputs = list(_names(graph["inputs"]))
        around = (given or [])[-len(inputs) :]  # a condition comes before what branches take
        for place, value in enumerate(inputs):
            values[value] = around[place] if place < len(around) else -1
        for node in graph["nodes"]:
            row = self._node(node, metas, values, group, depth)
            for value in _names(node["outputs"]):
                values[value] = row
        ends = []
        for value in _names(graph["outputs"]):
            row = values.get(value, -1)
            ends.append(row)
            if not depth and row >= 0:
                self.found.connect(row, -1, value, _meta(metas.get(value))[0])
        return ends

    def _node(self, node: Any, metas: Any, values: dict[str, int], group: str, depth: int) -> int:
        told = node.get("metadata") or {}
        op = _op(str(node["target"]))
        outputs = list(_names(node["outputs"]))
        shape, dtype, _ = _meta(metas.get(outputs[0])) if outputs else ("", "", 0)
        name = limits.cut(str(node.get("name") or (outputs[0] if outputs else "")))
        module = within(group, _module(str(told.get("nn_module_stack") or "")))
        used = [name for each in node["inputs"] for name in _names([each["arg"]])]
        inner = []
        here = within(module, name or op)
        for place, each in enumerate(node["inputs"]):
            body = each["arg"].get("as_graph")
            if body:
                given = [values.get(value, -1) for value in used]
                title = str(body.get("name") or place)
                inner += self.graph(body["graph"], within(here, title), depth + 1, given)
        row = self.found.add(
            op,
            name,
            module,
            shape,
            dtype,
            innermost(str(told.get("stack_trace") or "")),
            dict(_plain(node["inputs"])),
        )
        for value in used:
            if value in self._weights:
                if value not in self._used:
                    self._used.add(value)
                    weight, shape, dtype, nbytes, kind = self._weights[value]
                    self.found.weigh(row, weight, shape, dtype, nbytes, kind)
            elif value in values:
                self.found.connect(
                    values[value], row, limits.cut(value), _meta(metas.get(value))[0]
                )
        for source in inner:
            if source >= 0:
                self.found.connect(source, row)
        return row


def _names(arguments: Any) -> Iterator[str]:
    """Values that arguments name, also in lists and dictionaries."""
    open_ = list(reversed(arguments))
    while open_:
        argument = open_.pop()
        if isinstance(argument, dict):
            if isinstance(argument.get("name"), str):
                yield argument["name"]
                continue
            for kind, value in argument.items():
                if kind in _LISTS or kind == "as_nested_tensors":
                    open_ += reversed(value or [])
                elif kind == "as_string_to_argument" and isinstance(value, dict):
                    open_ += reversed(list(value.values()))
                elif kind in _NAMED and isinstance(value, dict):
                    if isinstance(value.get("as_name"), str):
                        yield value["as_name"]
                    else:
                        open_.append(value)
        elif isinstance(argument, list):
            open_ += reversed(argument)


def _plain(inputs: Any) -> Iterator[tuple[str, Any]]:
    """Arguments that are numbers or texts."""
    for each in inputs[:40]:
        ((kind, value),) = each["arg"].items()
        if kind in ("as_int", "as_float", "as_bool", "as_string"):
            yield str(each["name"])[:60], value if not isinstance(value, str) else value[:200]
        elif kind in ("as_ints", "as_floats", "as_bools", "as_strings"):
            yield str(each["name"])[:60], [str(one)[:60] for one in value[:16]]
        elif kind == "as_scalar_type":
            yield str(each["name"])[:60], _DTYPES.get(value, str(value))


def _op(target: str) -> str:
    """`aten::mm` for `torch.ops.aten.mm.default`; the last part of others."""
    target = limits.cut(target, 200)
    parts = target.split(".")
    if target.startswith("torch.ops.") and len(parts) >= 4:
        return f"{parts[2]}::{parts[3]}"
    return parts[-1]


def _module(stack: str) -> str:
    """The innermost of a stack as `L__self___a,a,__main__.A;L__self___a_b,a.b,torch.nn.Linear`."""
    last = stack.rpartition(";")[2].split(",")
    return limits.cut(last[1]) if len(last) > 2 else ""


def _meta(meta: Any) -> tuple[str, str, int]:
    """Shape, dtype and bytes."""
    if not isinstance(meta, dict):
        return "", "", 0
    dims = [_dim(each) for each in meta.get("sizes") or []]
    number = meta.get("dtype")
    dtype = _DTYPES.get(number, f"type {number}") if isinstance(number, int) else ""
    known = [dim for dim in dims if isinstance(dim, int)]
    nbytes = size(known, dtype) if len(known) == len(dims) else 0
    return limits.cut("x".join(map(str, dims))) or "scalar", dtype, nbytes


def _dim(told: Any) -> int | str:
    if isinstance(told.get("as_int"), int):
        return int(told["as_int"])
    expression = told.get("as_expr")
    text = expression.get("expr_str") if isinstance(expression, dict) else None
    symbol = _SYMBOL.fullmatch(text) if isinstance(text, str) else None
    return symbol[1] if symbol else "?"
