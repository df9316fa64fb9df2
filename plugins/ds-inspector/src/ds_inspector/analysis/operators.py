"""The table of operators, against the peaks of the machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ds_inspector.analysis.flops import CONVOLUTION, flops
from ds_inspector.analysis.once import once
from ds_inspector.analysis.paths import distinct, shared
from ds_inspector.analysis.roofline import bounds, peaks_of
from ds_inspector.analysis.shapes import parsed
from ds_inspector.analysis.timing import Mask, timing
from ds_inspector.forest import Floats, nearest, sum_by
from ds_inspector.recording import Recording, Texts

MOST = 5000
"""Rows that are returned, those with most time of their own."""

_NOT = ("module", "python", "annotation", "kernel", "runtime")


def operators(recording: Recording) -> dict[str, Any]:
    """Calls, time, bytes and rates of operators by shapes, dtype, phase and module.

    `rate` is FLOP/s over the time in all that the operator calls, `share_of_peak` is of what binds
    it: arithmetic, or bandwidth. Where kernels were recorded, time is theirs.
    """
    events, time = recording.events, timing(recording)
    rows = np.flatnonzero(is_operator(recording))
    columns = ("name", "shapes", "dtype", "phase", "module")
    texts = [events.texts(column).take(rows) for column in columns]
    found, places = distinct(*texts)
    count = len(found)

    def total(values: Floats) -> Floats:
        known = ~np.isnan(values)
        sums = sum_by(places[known], values[known], count)
        return np.where(np.bincount(places[known], minlength=count) > 0, sums, np.nan)

    seconds = own_seconds(recording)
    calls = np.bincount(places, minlength=count)
    values: dict[str, Floats] = {
        "seconds": total(seconds[rows]),
        "total": total(time.total[rows]),
        "bytes": total(events.numbers("bytes")[rows]),
        "flops": total(flops_of(recording)[rows]),
    }
    order = np.argsort(-values["seconds"], kind="stable")[:MOST]
    codes = np.array(found, np.int64).reshape(count, len(columns))[order]
    values = {name: value[order] for name, value in values.items()}
    names = {
        column: [text.values[code] for code in codes[:, number].tolist()]
        for number, (column, text) in enumerate(zip(columns, texts, strict=True))
    }
    peaks = peaks_of(recording)
    rate = values["flops"] / np.where(values["total"] > 0, values["total"], np.nan)
    bound, share = bounds(values["flops"], values["bytes"], values["total"], names["dtype"], peaks)
    sources = events.texts("source").take(rows)
    source = shared(sources.codes.astype(np.int64) + 1, places, count)[order]
    node = shared(events.numbers("node")[rows].astype(np.int64) + 1, places, count)[order]
    return {
        "columns": {
            "op": names["name"],
            "module": names["module"],
            "calls": calls[order],
            **values,
            "rate": rate,
            "share_of_peak": share,
            "bound": bound,
            "dtype": names["dtype"],
            "shapes": names["shapes"],
            "source": [["", *sources.values][code] for code in source.tolist()],
            "node": [row - 1 if row else None for row in node.tolist()],
            "phase": names["phase"],
        },
        "peaks": peaks,
        "by": "op+shapes",
        "left_out": max(0, count - MOST),
    }


@once
def is_operator(recording: Recording) -> Mask:
    """Which events are operators; whatever is nothing else, where none is said to be one."""
    kinds = recording.events.texts("kind")
    found = kinds.equal("operator")
    if not found.any():
        found = ~np.logical_or.reduce([kinds.equal(kind) for kind in _NOT])
    return found


@once
def own_seconds(recording: Recording) -> Floats:
    """Seconds of each event itself: on the device the kernels that it or its launches ran."""
    time = timing(recording)
    if not time.on_device:
        return time.own
    there = (time.operator >= 0) & (time.own > 0)
    return sum_by(time.operator[there], time.own[there], recording.events.rows)


@once
def flops_of(recording: Recording) -> Floats:
    """Floating-point operations of each event: as recorded, or else from shapes; NaN is unknown."""
    events = recording.events
    names, shapes = events.texts("name"), events.texts("shapes")
    outputs = _outputs(recording)
    found, places = distinct(names, shapes, outputs)
    each = np.array(
        [
            flops(
                names.values[name],
                parsed(shapes.values[inputs]),
                (*parsed(outputs.values[out]), ())[0],
            )
            for name, inputs, out in found
        ]
        or [np.nan]
    )
    said = np.nan_to_num(events.numbers("flops"))
    known = np.where(said > 0, said, each[places]) if events.rows else said
    # A convolution is a chain of calls of which only the first knows its stride.
    chain = np.array([bool(CONVOLUTION.fullmatch(name)) for name in names.values] or [False])
    convolution = chain[names.codes]
    source = nearest(events.numbers("parent"), convolution & ~np.isnan(known))
    inherited = np.where(source >= 0, known[source], np.nan) if events.rows else known
    return np.where(convolution & np.isnan(known), inherited, known)


def flops_in_all(recording: Recording) -> float | None:
    """Operations of all steps: of calls within calls only the outermost counts; None is unknown."""
    known, parent = flops_of(recording), recording.events.numbers("parent")
    counted = ~np.isnan(known)
    above = np.append(nearest(parent, counted), -1)[parent]
    outermost = counted & (above < 0)
    return float(known[outermost].sum()) if outermost.any() else None


def _outputs(recording: Recording) -> Texts:
    """Shape of the first output of each event, where its node has one."""
    nodes = of_owner_nodes(recording)
    shapes = recording.nodes.texts("shape")
    codes = np.append(shapes.codes.astype(np.int64), len(shapes.values))[nodes]
    return Texts(codes, [*shapes.values, ""])


def of_owner_nodes(recording: Recording) -> Any:
    """Node of each event, or -1."""
    nodes = recording.events.numbers("node").astype(np.int64)
    owner = timing(recording).owner
    return np.where(nodes < 0, nodes[owner], nodes) if len(nodes) else nodes
