"""Attributes of nodes in TensorFlow's graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ds_inspector.importing import limits
from ds_inspector.importing.protobuf import Wire, real, signed

_DTYPES = (
    "",
    *("float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64"),
    *("bool", "qint8", "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16"),
    *("complex128", "float16", "resource", "variant", "uint32", "uint64", "float8_e5m2"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz", "int4", "uint4"),
)
_REFERENCE = 100  # is added to types of references
_DTYPE_NAMES = ("dtype", "T", "DstT", "output_type", "out_type", "Tout", "SrcT")
_ITEMS = 16
_HIDDEN = 200  # attributes shown


@dataclass(slots=True)
class Attributes:
    """Shape and dtype of the first output, and what is shown."""

    shape: str = ""
    dtype: str = ""
    shown: dict[str, Any] = field(default_factory=dict)


def attributes_of(wire: Wire, ranges: list[tuple[int, int]]) -> Attributes:
    """Entries of the map from names to AttrValue."""
    found, types, declared = Attributes(), {}, ""
    for start, end in ranges[:_HIDDEN]:
        name, value = "", (0, 0)
        for number, a, b in wire.fields(start, end):
            if number == 1 and b >= 0:
                name = wire.text(a, b, 100)
            elif number == 2 and b >= 0:
                value = (a, b)
        if name == "_output_shapes":
            found.shape = next(iter(_shapes(wire, *value)), "")
            continue
        kind, shown = _value(wire, *value)
        if kind == "type":
            types[name] = str(shown)
        elif kind == "tensor":
            dtype, shape = shown
            found.shape = found.shape or shape
            found.dtype = found.dtype or dtype
        elif kind == "shape" and name == "shape":
            declared = shown  # of a variable, whose output is but a handle to it
        elif not name.startswith("_") and shown not in (None, "", []):
            found.shown[name] = shown
    found.shape = declared or found.shape
    for name in _DTYPE_NAMES:
        found.dtype = found.dtype or types.get(name, "")
    return found


def _value(wire: Wire, start: int, end: int) -> tuple[str, Any]:
    """An AttrValue: its kind, and what is shown."""
    for number, a, b in wire.fields(start, end):
        if number == 2 and b >= 0:
            return "text", wire.text(a, b, 200)
        if number == 3 and b < 0:
            return "number", signed(a)
        if number == 4 and b < 0:
            return "number", float(f"{real(a):.7g}") if abs(real(a)) < 1e38 else str(real(a))
        if number == 5 and b < 0:
            return "number", bool(a)
        if number == 6 and b < 0:
            return "type", _dtype(a)
        if number == 7 and b >= 0:
            return "shape", _shape(wire, a, b)
        if number == 8 and b >= 0:
            return "tensor", _tensor(wire, a, b)
        if number == 10 and b >= 0:
            name = next(
                (wire.text(c, d) for one, c, d in wire.fields(a, b) if one == 1 and d >= 0), ""
            )
            return "function", name
        if number == 1 and b >= 0:
            return "list", _list(wire, a, b)
    return "", None


def _list(wire: Wire, start: int, end: int) -> list[Any]:
    found: list[Any] = []
    for number, a, b in wire.fields(start, end):
        if len(found) >= _ITEMS:
            break
        if number == 2 and b >= 0:
            found.append(wire.text(a, b, 100))
        elif number in (3, 6):
            values = wire.numbers(a, min(b, a + 10 * _ITEMS)) if b >= 0 else [a]
            found += [signed(value) if number == 3 else _dtype(value) for value in values]
        elif number == 7 and b >= 0:
            found.append(_shape(wire, a, b))
    return found[:_ITEMS]


def _shapes(wire: Wire, start: int, end: int) -> list[str]:
    """The shapes of a list."""
    for number, a, b in wire.fields(start, end):
        if number == 1 and b >= 0:
            return [_shape(wire, c, d) for one, c, d in wire.fields(a, b) if one == 7 and d >= 0]
    return []


def _shape(wire: Wire, start: int, end: int) -> str:
    """A TensorShapeProto as `?x8`; "" where the rank is unknown."""
    dims = []
    for number, a, b in wire.fields(start, end):
        if number == 3 and b < 0 and a:
            return ""
        if number == 2 and b >= 0:
            size = next((signed(c) for one, c, d in wire.fields(a, b) if one == 1 and d < 0), 0)
            dims.append(str(size) if size >= 0 else "?")
    return limits.cut("x".join(dims)) or "scalar"


def _tensor(wire: Wire, start: int, end: int) -> tuple[str, str]:
    """Dtype and shape of a TensorProto, whose numbers are not read."""
    dtype, shape = "", "scalar"
    for number, a, b in wire.fields(start, end):
        if number == 1 and b < 0:
            dtype = _dtype(a)
        elif number == 2 and b >= 0:
            shape = _shape(wire, a, b)
            if dtype:
                break
    return dtype, shape


def _dtype(number: int) -> str:
    number -= _REFERENCE if number > _REFERENCE else 0
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type {number}"
