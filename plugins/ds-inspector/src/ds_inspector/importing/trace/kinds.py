"""What categories, threads and arguments in a trace mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ds_inspector.forest import Ints
from ds_inspector.importing import limits
from ds_inspector.importing.trace.rows import Rows
from ds_inspector.recording.table import Texts

KINDS = ["operator", "module", "kernel", "python", "annotation", "runtime", "other"]
OPERATOR, MODULE, KERNEL, PYTHON, ANNOTATION, RUNTIME, OTHER = range(len(KINDS))

_CATEGORIES = {
    **dict.fromkeys(("cpu_op", "operator"), OPERATOR),
    **dict.fromkeys(("python_function", "python"), PYTHON),
    "module": MODULE,
    **dict.fromkeys(("kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"), KERNEL),
    **dict.fromkeys(("user_annotation", "annotation"), ANNOTATION),
    "runtime": RUNTIME,
}
_MODULE = "nn.Module: "
_FRAMES = "autograd::engine::"  # around operators, themselves none
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "long int": "int64",
    "long": "int64",
    "int": "int32",
    "short int": "int16",
    "short": "int16",
    "signed char": "int8",
    "unsigned char": "uint8",
    "bool": "bool",
    "c10::Half": "float16",
    "c10::BFloat16": "bfloat16",
    "c10::complex<float>": "complex64",
    "c10::complex<double>": "complex128",
    "c10::Float8_e4m3fn": "float8_e4m3fn",
    "c10::Float8_e5m2": "float8_e5m2",
}


def kinds_of(rows: Rows) -> Ints:
    """Numbers into `KINDS`, one a row."""
    by_category = np.array([_kind(str(each).lower()) for each in rows.known["category"]] or [OTHER])
    kinds: Ints = by_category[rows.codes["category"]]
    names = rows.names_of
    module = starts(names, _MODULE)
    kinds = np.where((kinds == PYTHON) & module, MODULE, kinds)
    return np.where((kinds == OPERATOR) & starts(names, _FRAMES), ANNOTATION, kinds)


def _kind(category: str) -> int:
    if category.endswith(("_runtime", "_driver")):
        return RUNTIME
    return _CATEGORIES.get(category, OTHER)


def starts(names: Texts, prefix: str | tuple[str, ...]) -> NDArray[np.bool_]:
    """Which rows' texts start so."""
    found = np.array([name.startswith(prefix) for name in names.values] + [False])
    rows: NDArray[np.bool_] = found[names.codes]
    return rows


def lanes_of(rows: Rows, kinds: Ints, start: Ints) -> tuple[Ints, list[str]]:
    """A number for each row's lane, and what the lanes are called: threads first, as they begin."""
    lanes, keys = rows.codes["lane"], rows.known["lane"]
    count = len(keys)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, lanes, start)
    stream = np.bincount(lanes, kinds == KERNEL, count) > 0
    order = np.lexsort((first, stream))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    used = np.unique(lanes[rows.kept]).tolist()
    processes = {keys[lane][0] for lane in used if not stream[lane]}
    names = [
        _lane(keys[lane], bool(stream[lane]), rows.names.get(keys[lane], ""), len(processes) > 1)
        for lane in order.tolist()
    ]
    return rank[lanes], names


def _lane(key: tuple[Any, Any], stream: bool, name: str, many: bool) -> str:
    process, thread = (str(part)[:60] for part in key)
    if name and not name.startswith(("thread ", "stream ")):
        return name
    if stream:
        return f"cuda:{process} stream {thread}"
    return f"cpu {process}/{thread}" if many else f"cpu {thread}"


def inputs_of(rows: Rows) -> tuple[Texts, Texts]:
    """Shapes of inputs, as `4x3, 3x3`, and the dtype of the first tensor."""
    known = [_input(key) for key in rows.known["input"]]
    codes = rows.codes["input"]
    return tuple(Texts.of([each[part] for each in known] or [""]).take(codes) for part in (0, 1))  # type: ignore[return-value]


def _input(key: tuple[bytes, bytes]) -> tuple[str, str]:
    dims, types = (orjson.loads(each or b"[]") for each in key)
    if not isinstance(dims, list):
        return "", ""
    shapes = [text for each in dims if (text := _shape(each))]
    dtype = ""
    for each in types if isinstance(types, list) else []:
        if isinstance(each, str) and each in _DTYPES:
            dtype = _DTYPES[each]
            break
    return limits.cut(", ".join(shapes)), dtype


def _shape(dims: Any) -> str:
    if not isinstance(dims, list) or not dims:
        return ""
    if isinstance(dims[0], list):  # a list of tensors
        return ", ".join(text for each in dims[:16] if (text := _sizes(each)))
    return _sizes(dims)


def _sizes(dims: Any) -> str:
    if not isinstance(dims, list):
        return ""
    return "x".join(str(dim)[:20] if isinstance(dim, (int, str)) else "?" for dim in dims[:16])
