"""Types, weights and attributes in ONNX files: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ds_inspector.importing import limits
from ds_inspector.importing.graph import size
from ds_inspector.importing.protobuf import Wire, real, signed

_DTYPES = (
    "",
    *("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"),
    *("float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    *("uint4", "int4", "float4_e2m1", "float8_e8m0", "uint2", "int2"),
)
_ITEMS = 16  # of a list that is shown
_DIMS = 64


class Value(NamedTuple):
    """Shape as `4x3x8x8`, unknown sizes by their names or as `?`, and dtype."""

    shape: str
    dtype: str


UNKNOWN = Value("", "")


class Weight(NamedTuple):
    """An initializer, without its numbers."""

    name: str
    value: Value
    bytes: int


def dtype_of(number: int) -> str:
    """Name of an element type; as `type 99` where it is of a later version."""
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type {number}"


def type_of(wire: Wire, start: int, end: int) -> Value:
    """A TypeProto: that of a tensor, or what a sequence or an optional holds."""
    for _ in range(limits.DEPTH):
        inner = None
        for field, a, b in wire.fields(start, end):
            if b < 0:
                continue
            if field in (1, 8):  # dense and sparse tensors
                return _tensor_type(wire, a, b)
            if field in (4, 9):  # sequence, optional: their only field is a TypeProto
                inner = next(((c, d) for _, c, d in wire.fields(a, b) if d >= 0), None)
        if inner is None:
            break
        start, end = inner
    return UNKNOWN


def _tensor_type(wire: Wire, start: int, end: int) -> Value:
    dtype, dims = "", None
    for field, a, b in wire.fields(start, end):
        if field == 1 and b < 0:
            dtype = dtype_of(a)
        elif field == 2 and b >= 0:
            dims = [_dim(wire, c, d) for one, c, d in wire.fields(a, b) if one == 1 and d >= 0]
    if dims is None:
        return Value("", dtype)
    return Value(limits.cut("x".join(dims[:_DIMS])) or "scalar", dtype)


def _dim(wire: Wire, start: int, end: int) -> str:
    for field, a, b in wire.fields(start, end):
        if field == 1 and b < 0:
            return str(signed(a))
        if field == 2 and b >= 0:
            return wire.text(a, b, 60) or "?"
    return "?"


def weight_of(wire: Wire, start: int, end: int) -> tuple[bytes, Weight]:
    """A TensorProto; data, its own or in another file, is not read."""
    name, dims, dtype = b"", [], ""
    for field, a, b in wire.fields(start, end):
        if field == 1:
            dims += wire.numbers(a, b) if b >= 0 else [a]
        elif field == 2 and b < 0:
            dtype = dtype_of(a)
        elif field == 8 and b >= 0:
            name = wire.data[a:b]
    shape = "x".join(map(str, dims[:_DIMS])) or "scalar"
    text = limits.cut(name[: 4 * limits.NAME].decode(errors="replace"))
    return name, Weight(text, Value(limits.cut(shape), dtype), size(dims, dtype))


def sparse_weight_of(wire: Wire, start: int, end: int) -> tuple[bytes, Weight]:
    """A SparseTensorProto: the bytes are those of its values."""
    name, weight, dims = b"", Weight("", UNKNOWN, 0), []
    for field, a, b in wire.fields(start, end):
        if field == 1 and b >= 0:
            name, weight = weight_of(wire, a, b)
        elif field == 3:
            dims += wire.numbers(a, b) if b >= 0 else [a]
    shape = limits.cut("x".join(map(str, dims[:_DIMS])))
    return name, weight._replace(value=Value(shape, weight.value.dtype))


class Attribute(NamedTuple):
    """Name, what is shown of the value, and the graphs in it as ranges."""

    name: str
    shown: Any
    graphs: list[tuple[int, int]]


def attribute_of(wire: Wire, start: int, end: int) -> Attribute:
    """An AttributeProto."""
    name, graphs = "", []
    shown: Any = None
    many: list[Any] = []
    for field, a, b in wire.fields(start, end):
        if field == 1 and b >= 0:
            name = wire.text(a, b, 100)
        elif field == 2 and b < 0:
            shown = _number(real(a))
        elif field == 3 and b < 0:
            shown = signed(a)
        elif field == 4 and b >= 0:
            shown = wire.text(a, b)
        elif field == 5 and b >= 0:
            weight = weight_of(wire, a, b)[1]
            shown = f"tensor {weight.value.dtype} {weight.value.shape}"
        elif field in (6, 11) and b >= 0:
            graphs.append((a, b))
        elif len(many) <= _ITEMS:
            if field == 7:
                many += _floats(wire, a, b)
            elif field == 8:
                packed = wire.numbers(a, min(b, a + 10 * _ITEMS)) if b >= 0 else [a]
                many += [signed(value) for value in packed]
            elif field == 9 and b >= 0:
                many.append(wire.text(a, b, 100))
            elif field == 21 and b >= 0:
                shown = f"@{wire.text(a, b, 100)}"
    if many:
        shown = many[:_ITEMS] + (["\u2026"] if len(many) > _ITEMS else [])
    return Attribute(name, shown, graphs)


def _floats(wire: Wire, a: int, b: int) -> list[Any]:
    if b < 0:
        return [_number(real(a))]
    stops = range(a, min(b - 3, a + 4 * (_ITEMS + 1)), 4)
    return [_number(real(int.from_bytes(wire.data[at : at + 4], "little"))) for at in stops]


def _number(value: float) -> float | str:
    # JSON has no infinity; seven digits are all that 32 bits hold.
    return float(f"{value:.7g}") if math.isfinite(value) else str(value)
