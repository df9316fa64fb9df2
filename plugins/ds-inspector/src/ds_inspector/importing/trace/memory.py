"""Memory in a trace: what the allocator said, and how long each allocation lived."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds_inspector.forest import Floats, Ints, nearest
from ds_inspector.importing.trace.rows import Rows
from ds_inspector.recording import Table
from ds_inspector.recording.table import Texts

_CLIMBS = 200


def usage(rows: Rows, base: float) -> Table:
    """What was allocated over time, by `[memory]` instants or by counters in bytes."""
    found = []
    for when, value, name in rows.counters:
        if isinstance(when, (int, float)) and isinstance(value, (int, float)):
            found.append((when, value, name.removeprefix("memory ")[:100]))
    told = rows.instants.numbers
    times = np.append(told["ts"], _floats([each[0] for each in found]))
    totals = np.append(told["total"], _floats([each[1] for each in found]))
    seconds = (times - base) / 1e6
    order = np.argsort(seconds, kind="stable")
    columns = {
        "time": seconds[order],
        "bytes": totals[order],
        "device": _devices(rows, [each[2] for each in found]).take(order),
    }
    return Table("usage", columns)


def lives(rows: Rows, events: Table, lane_of: dict[Any, int], base: float) -> Table:
    """Allocations by address, each until it is freed; those made before are not known.

    Args:
        rows: The trace.
        events: Its events; the innermost operator around an allocation made it.
        lane_of: Lanes of events by those of the trace.
        base: Microseconds at which the recording begins.
    """
    told = rows.instants.numbers
    times, sizes = (told["ts"] - base) / 1e6, told["size"]
    if not len(times) or not events.rows:
        return Table("tensors")
    devices = _devices(rows, [])
    address = np.unique(told["address"], return_inverse=True)[1]
    key = address * len(devices.values) + devices.codes
    order = np.lexsort((times, key))
    # What is asked for at an address again was given back before, even if nothing says so.
    freed = np.append(np.diff(key[order]) == 0, False)
    died = np.where(freed, times[np.roll(order, -1)], np.inf)
    made = (sizes[order] > 0) & np.isfinite(times[order])
    born, died = order[made], died[made]
    places = [lane_of.get(key[2:], -1) for key in rows.instants.known["where"]]
    lanes = np.array(places, np.int64)[rows.instants.codes["where"][born]]
    owner = _around(events, lanes, times[born])
    texts: dict[str, Any] = {
        name: _of(events.texts(name), owner) for name in ("module", "source", "phase", "dtype")
    }
    steps = events.numbers("step")
    tensors = {
        **texts,
        "op": _of(events.texts("name"), np.where(_operators(events)[owner], owner, -1)),
        "born": times[born],
        "died": died,
        "bytes": np.clip(sizes[born], 0, 2.0**62).astype(np.int64),
        "kind": _kinds(events, texts["phase"], times[born], died),
        "step": np.where(owner >= 0, steps[owner], -1),
        "device": devices.take(born),
    }
    return Table("tensors", tensors)


def _devices(rows: Rows, more: list[str]) -> Texts:
    """The device of each instant, and more of them."""
    known = rows.instants.known["where"]
    names = [f"cuda:{number}" if kind == 1 else "cpu" for kind, number, *_ in known]
    codes = np.append(rows.instants.codes["where"], len(names) + np.arange(len(more)))
    return Texts.of(names + more).take(codes)


def _around(events: Table, lanes: Ints, times: Floats) -> Ints:
    """The innermost operator that runs at each time, or else whatever runs; -1 for nothing."""
    lane, start = events.texts("lane").codes.astype(np.int64), events.numbers("start")
    parent, end = events.numbers("parent").astype(np.int64), start + events.numbers("duration")
    order = np.lexsort(
        (
            np.append(np.zeros(len(lane)), np.ones(len(times))),
            np.append(start, times),
            np.append(lane, lanes),
        )
    )
    last = np.maximum.accumulate(np.where(order < len(lane), order, -1))
    found = np.empty(len(times), np.int64)
    asked = order >= len(lane)
    found[order[asked] - len(lane)] = last[asked]
    found = np.where((found >= 0) & (lane[found] == lanes), found, -1)
    for _ in range(_CLIMBS):
        over = (found >= 0) & (end[found] < times)
        if not over.any():
            break
        found[over] = parent[found[over]]
    operator = np.append(nearest(parent, _operators(events)), -1)[found]
    return np.where(operator >= 0, operator, found)


def _operators(events: Table) -> NDArray[np.bool_]:
    return events.texts("kind").equal("operator")


def _of(texts: Texts, rows: Ints) -> Texts:
    values = texts.values + [""]
    return Texts(np.where(rows >= 0, texts.codes[rows], len(values) - 1), values)


def _kinds(events: Table, phase: Texts, born: Floats, died: Floats) -> Texts:
    """What forward made and a backward that began later still had is an activation."""
    begins = np.sort(events.numbers("start")[events.texts("phase").equal("backward")])
    at = np.searchsorted(begins, born)
    later = np.append(begins, np.inf)[at] < died
    activation = phase.equal("forward") & later & np.isfinite(died)
    return Texts(activation.astype(np.uint32), ["temporary", "activation"])


def _floats(values: list[Any]) -> NDArray[np.float64]:
    return np.array([float(value) if abs(value) < 1e300 else np.nan for value in values], float)
