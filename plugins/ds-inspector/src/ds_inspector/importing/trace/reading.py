"""From a trace to a recording."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ds_core.errors import RefusedError
from ds_inspector.forest import Ints
from ds_inspector.importing.trace import memory, owners, written
from ds_inspector.importing.trace.batch import Batch, batch_of, decode
from ds_inspector.importing.trace.helpers import Helpers, cores
from ds_inspector.importing.trace.kinds import (
    KERNEL,
    KINDS,
    OPERATOR,
    RUNTIME,
    inputs_of,
    kinds_of,
    lanes_of,
)
from ds_inspector.importing.trace.nesting import order_of, parents
from ds_inspector.importing.trace.owners import Events, match
from ds_inspector.importing.trace.pieces import Pieces
from ds_inspector.importing.trace.rows import LATEST, Rows
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from ds_inspector.recording.table import Texts


def read(pieces: Pieces, coming: Iterable[list[Any]], path: Path) -> Recording:
    """Read the events of a trace.

    Args:
        pieces: The file.
        coming: Its events, of which the first piece has been looked at.
        path: Where they come from.

    Raises:
        RefusedError: There is no event in it, or more than is read.
    """
    rows = Rows(keep=written.is_ours(pieces.about))  # which takes longer
    with ExitStack() as stack:
        if not rows.keep:
            pieces.decode = decode
            if pieces.large and cores() > 1:
                pieces.helpers = stack.enter_context(Helpers(cores()))
        for piece in coming:
            rows.take(piece if isinstance(piece, Batch) else batch_of(piece, rows.keep))
    rows.finish()
    if not rows.kept.any():
        raise RefusedError(f"{path} has no events that take time.")
    recording = _recording(rows, About(title=path.name, origin="trace"))
    _describe(recording.about, pieces.about, rows.lost)
    return recording


def _recording(rows: Rows, about: About) -> Recording:
    kept = np.flatnonzero(rows.kept)
    base = 0.0 if rows.keep else float(rows.start[kept].min())
    start = np.rint((rows.start - base) * 1000)
    start = np.where(rows.kept, start, 0).astype(np.int64)
    duration = np.where(rows.kept, np.rint(rows.duration * 1000), 0).astype(np.int64)
    kinds = kinds_of(rows)
    lanes, names = lanes_of(rows, kinds, start)
    seen, first = np.unique(rows.codes["lane"], return_index=True)
    lane_of = {
        rows.known["lane"][lane]: int(lanes[row])
        for lane, row in zip(seen.tolist(), first.tolist(), strict=True)
    }
    order = kept[order_of(lanes[kept], start[kept], duration[kept])]
    lane, start, duration = lanes[order], start[order], duration[order]
    events = Events(
        start=start,
        end=start + duration,
        parent=parents(lane, start, start + duration),
        cause=np.full(len(order), -1),
        kind=kinds[order],
        name=rows.names_of.take(order),
        sequence=rows.numbers["sequence"][order],
    )
    events.cause = _causes(rows, order, events, lane, lane_of, base)
    phase = owners.phases(events)
    begin, end = written.steps(rows) if rows.keep else owners.steps(events)
    shapes, dtype = inputs_of(rows)
    columns = {
        "start": start / 1e9,
        "duration": duration / 1e9,
        "parent": events.parent,
        "name": events.name,
        "kind": Texts(events.kind, KINDS),
        "lane": Texts(lane, names),
        "phase": phase,
        "step": owners.step_of(events, begin, end),
        "module": owners.modules(events, phase),
        "source": owners.sources(events, phase),
        "cause": events.cause,
        "shapes": shapes.take(order),
        "dtype": dtype.take(order),
    }
    if rows.keep:
        columns |= written.columns([rows.given[row] for row in order.tolist()], len(begin))
    table = Table("events", columns)
    tables = {
        "events": table,
        "steps": Table("steps", {"start": begin / 1e9, "end": end / 1e9}),
        "usage": memory.usage(rows, base),
        "tensors": memory.lives(rows, table, lane_of, base),
    }
    return Recording(about, tables)


def _causes(
    rows: Rows, order: Ints, events: Events, lane: Ints, lane_of: dict[Any, int], base: float
) -> Ints:
    """What launched each kernel: the operator, or else the call of the runtime."""
    cause = np.full(len(order), -1)
    kernels = np.flatnonzero(events.kind == KERNEL)
    if not len(kernels):
        return cause
    for column, kind in (("external", OPERATOR), ("correlation", RUNTIME)):
        keys = rows.numbers[column][order]
        known = np.flatnonzero((events.kind == kind) & (keys >= 0))
        found = np.where(keys[kernels] >= 0, match(keys[kernels], keys, known), -1)
        cause[kernels] = np.where(cause[kernels] >= 0, cause[kernels], found)
    if (cause[kernels] < 0).any() and rows.flows:
        _follow(rows, events, lane, lane_of, base, cause)
    return cause


def _follow(
    rows: Rows, events: Events, lane: Ints, lane_of: dict[Any, int], base: float, cause: Ints
) -> None:
    """Fill in causes that only arrows tell, from the event at one end to that at the other."""
    row_at: dict[tuple[int, int], int] = {}
    for row, key in enumerate(zip(lane.tolist(), events.start.tolist(), strict=True)):
        row_at[key] = row  # the innermost of those that begin together
    begun: dict[Any, int] = {}
    for phase in ("s", "f"):
        for end, flow, place, when in rows.flows:
            if end == phase and isinstance(when, (int, float)) and abs(when) < LATEST:
                key = (lane_of.get(place, -1), round((when - base) * 1000))
                row = row_at.get(key, -1)
                if phase == "s":
                    begun[flow] = row
                elif row >= 0 and cause[row] < 0 and events.kind[row] == KERNEL:
                    cause[row] = begun.get(flow, -1)


def _describe(about: About, around: dict[str, Any], lost: int) -> None:
    told = {
        "host": around.get("host_name"),
        "schema": around.get("schemaVersion"),
        "exporter": around.get("exporter"),
    }
    devices = around.get("deviceProperties")
    if isinstance(devices, list) and devices and isinstance(devices[0], dict):
        told["device"] = devices[0].get("name")
    about.machine = {key: str(value)[:200] for key, value in told.items() if value}
    if lost:
        about.problems.append(f"{lost:,} events have no time that makes sense and are left out.")
