"""Profiles of onnxruntime, alone or joined to the model that was run."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ds_core.errors import RefusedError
from ds_inspector.importing import limits
from ds_inspector.importing.naming import module_of
from ds_inspector.importing.trace.nesting import order_of, parents
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from ds_inspector.recording.table import Texts

_TIME = "_kernel_time"
_RUN = "model_run"
_MARKS = ("_fence_before", "_fence_after")
# What optimisations of onnxruntime append to the name of the node that they change.
_CHANGED = re.compile(
    r"(/[A-Za-z]*Fusion/?|_token_\d+|_new_reshape|_nchwc|_quant|_fp32|_transposed)$"
)
_DTYPES = {"float": "float32", "double": "float64"}
_LATEST = 4e15


def is_profile(events: list[Any]) -> bool:
    """Whether the first events of a trace are those of onnxruntime."""
    kinds = [event.get("cat") for event in events[:50] if isinstance(event, dict)]
    return bool(kinds) and all(kind in ("Session", "Node", "Kernel", "Api") for kind in kinds)


@dataclass
class Profile:
    """A recording, and beside each event what joins it to a model."""

    recording: Recording
    node_name: list[str]
    index: list[int]
    output: list[str]
    output_dtype: list[str]


def read(pieces: Iterable[list[Any]], path: Path) -> Profile:
    """Read a profile; events are operators, their modules those that paths in names say.

    Raises:
        RefusedError: Nothing took time in it, or it has more events than are read.
    """
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    lost = 0
    for piece in pieces:
        for event in piece:
            row = _row(event)
            if row is None:
                lost += 1
            elif row:
                for column, value in zip(_COLUMNS, row, strict=True):
                    rows[column].append(value)
        if len(rows["name"]) > limits.EVENTS:
            raise limits.refuse(f"{path} has", limits.EVENTS, "events")
    if not rows["name"]:
        raise RefusedError(f"{path} has no events that take time.")
    about = About(title=path.name, origin="onnxruntime")
    if lost:
        about.problems.append(f"{lost:,} events have no time that makes sense and are left out.")
    return _profile(rows, about)


_COLUMNS = (
    *("start", "duration", "name", "node_name", "index", "kind", "lane", "flops", "bytes"),
    *("shapes", "dtype", "output", "output_dtype", "used", "provider"),
)


def _row(event: Any) -> tuple[Any, ...] | None:
    """Values of `_COLUMNS`; empty for what takes no time, None for what makes no sense."""
    if not isinstance(event, dict) or not isinstance(event.get("name"), str):
        return None
    name, category = event["name"], event.get("cat")
    if event.get("ph") != "X" or name.endswith(_MARKS):
        return ()
    start, duration = _number(event.get("ts")), _number(event.get("dur"))
    if not (abs(start) < _LATEST and 0 <= duration < _LATEST):
        return None
    given = event.get("args")
    given = given if isinstance(given, dict) else {}
    lane = f"cpu {str(event.get('tid', ''))[:60]}"
    kind, node = "annotation", ""
    if category == "Kernel":
        kind, lane = "kernel", f"cuda stream {str(given.get('stream', event.get('tid')))[:60]}"
    elif category == "Node":
        kind, node = "operator", name.removesuffix(_TIME)
        name = str(given.get("op_name") or given.get("op_kernel_name") or node)
    inputs, outputs = (
        _values(given.get("input_type_shape")),
        _values(given.get("output_type_shape")),
    )
    sizes = [_number(given.get(f"{each}_size")) for each in ("output", "activation", "parameter")]
    index = _number(given.get("node_index"))
    return (
        start,
        duration,
        limits.cut(name),
        limits.cut(node),
        int(index) if 0 <= index < limits.NODES else -1,
        kind,
        lane,
        _flops(name, inputs, outputs),
        sum(sizes) if kind == "operator" else math.nan,
        ", ".join(_text(dims) for _, dims in inputs),
        inputs[0][0] if inputs else "",
        _text(outputs[0][1]) if outputs else "",
        outputs[0][0] if outputs else "",
        _number(given.get("mem_bytes_in_use")),
        str(given.get("provider", ""))[:60],
    )


def _profile(rows: dict[str, list[Any]], about: About) -> Profile:
    base = min(rows["start"])
    start = np.rint((np.array(rows["start"]) - base) * 1000).astype(np.int64)
    duration = np.rint(np.array(rows["duration"]) * 1000).astype(np.int64)
    lane = Texts.of(rows["lane"])
    order = order_of(lane.codes.astype(np.int64), start, duration)
    start, duration, lane = start[order], duration[order], lane.take(order)
    column = {
        name: [rows[name][row] for row in order.tolist()] for name in _COLUMNS if name != "lane"
    }
    runs = np.array([name == _RUN for name in column["name"]], bool)
    begin = np.sort(start[runs])
    end = (start + duration)[runs][np.argsort(start[runs], kind="stable")]
    step = np.searchsorted(begin, start, "right") - 1
    if len(begin):
        step = np.where(start < end[step], step, -1)
    used = np.array(column["used"], float)
    told = np.isfinite(used) & (used < 2.0**62)
    computes = Texts.of(column["kind"]).equal("operator") & (step >= 0)
    events = {
        **{name: column[name] for name in ("name", "kind", "flops", "bytes", "shapes", "dtype")},
        "start": start / 1e9,
        "duration": duration / 1e9,
        "parent": parents(lane.codes.astype(np.int64), start, start + duration),
        "lane": lane,
        "phase": Texts(computes.astype(np.uint32), ["other", "forward"]),
        "step": step,
        "module": [module_of(name) for name in column["node_name"]],
    }
    usage = {
        "time": (start + duration)[told] / 1e9,
        "bytes": used[told],
        "device": Texts.of(["cpu"] * int(told.sum())),
    }
    providers = sorted(set(column["provider"]) - {""})
    about.machine = {"providers": ", ".join(providers[:10])} if providers else {}
    tables = {
        "events": Table("events", events),
        "steps": Table("steps", {"start": begin / 1e9, "end": end / 1e9}),
        "usage": Table("usage", usage),
    }
    joining = (column[name] for name in ("node_name", "index", "output", "output_dtype"))
    return Profile(Recording(about, tables), *joining)


def joined(model: Recording, profile: Profile) -> Recording:
    """The model with the profile's times; what onnxruntime itself added stays without a node."""
    events, nodes = profile.recording.events, model.nodes
    names = list(nodes.texts("name"))
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        rows[name] = -1 if name in rows else row  # those that several have say nothing
    is_node = events.texts("kind").equal("operator").tolist()
    found = np.full(events.rows, -1)
    for event, name in enumerate(profile.node_name):
        if is_node[event]:
            found[event] = _node(name, profile.index[event], names, rows)
    known = found >= 0
    about = copy.deepcopy(model.about)
    about.origin = "onnxruntime"
    about.machine |= profile.recording.about.machine
    about.problems += profile.recording.about.problems + _unmatched(events, found)
    columns = {
        name: _chosen(known, nodes.texts(name), found, events.texts(name))
        for name in ("module", "source")
    }
    tables = {
        **model.tables,
        "steps": profile.recording.steps,
        "usage": profile.recording.usage,
        "events": events.replaced(node=found, **columns),
        "nodes": _shaped(nodes, profile, found),
    }
    return Recording(about, tables)


def _node(name: str, index: int, names: list[str], rows: dict[str, int]) -> int:
    """The row of a node by its name, that it had before onnxruntime changed it if need be."""
    if 0 <= index < len(names) and names[index] == name:
        return index
    while name not in rows and _CHANGED.search(name):
        name = _CHANGED.sub("", name)
    return rows.get(name, -1)


def _unmatched(events: Table, found: Any) -> list[str]:
    operator = events.texts("kind").equal("operator")
    seconds = events.numbers("duration")
    total, lost = seconds[operator].sum(), seconds[operator & (found < 0)].sum()
    if not lost > 0:
        return []
    return [
        f"{lost / total:.1%} of the operators' time is in nodes that onnxruntime made and that the "
        "model does not have."
    ]


def _chosen(known: Any, values: Texts, rows: Any, otherwise: Texts) -> Texts:
    texts = values.values + otherwise.values
    if not len(values):
        return otherwise
    codes = np.where(known, values.codes[rows], otherwise.codes + np.uint32(len(values.values)))
    return Texts(codes, texts)


def _shaped(nodes: Table, profile: Profile, found: Any) -> Table:
    """Shapes that the model does not tell are those that were computed."""
    shapes, dtypes = list(nodes.texts("shape")), list(nodes.texts("dtype"))
    for event, row in enumerate(found.tolist()):
        if row >= 0 and not shapes[row] and profile.output[event]:
            shapes[row], dtypes[row] = profile.output[event], profile.output_dtype[event]
    return nodes.replaced(shape=shapes, dtype=dtypes)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if abs(number) < 1e300 else math.nan


def _values(told: Any) -> list[tuple[str, list[int]]]:
    """Dtypes and dimensions from lists as `[{"float": [2, 3]}]`."""
    found = []
    for each in told[:64] if isinstance(told, list) else []:
        if isinstance(each, dict) and len(each) == 1:
            ((dtype, dims),) = each.items()
            if isinstance(dims, list) and all(isinstance(dim, int) for dim in dims):
                found.append((_DTYPES.get(dtype, dtype[:40]), dims[:32]))
    return found


def _text(dims: list[int]) -> str:
    return "x".join(map(str, dims)) or "scalar"


def _flops(op: str, inputs: list[tuple[str, list[int]]], outputs: list[Any]) -> float:
    """Of matrix products and convolutions; unknown for others."""
    if len(inputs) < 2 or not outputs:
        return math.nan
    (_, left), (_, right), (_, out) = inputs[0], inputs[1], outputs[0]
    if op in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm") and left and right and out:
        # A transposed operand keeps the product of its sizes, from which the inner one follows.
        rows, columns = (out[-2], out[-1]) if len(out) > 1 else (1, out[-1])
        batch = math.prod(out) / max(rows * columns, 1)
        inner = math.prod(left) / max(rows * batch, 1) if rows else 0
        return 2.0 * float(math.prod(out)) * inner
    if op in ("Conv", "FusedConv", "NhwcFusedConv") and len(right) > 2:
        return 2.0 * float(math.prod(out) * math.prod(right[1:]))
    return math.nan
