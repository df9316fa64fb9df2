"""Traces for Perfetto and chrome://tracing.

The format: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ds_core.errors import RefusedError
from ds_inspector.exporting.writing import Outputs
from ds_inspector.importing.trace.written import EXPORTER, NUMBERS, STEP, TEXTS
from ds_inspector.recording import Recording, Table

_BATCH = 4096
_POINTS = 20_000  # of a counter; more cannot be told apart on a screen


def write(recording: Recording, path: Path, outputs: Outputs) -> None:
    """Write lanes as threads, causes of kernels as arrows, memory as counters."""
    if not recording.events.rows and not recording.tensors.rows:
        raise RefusedError("The recording has no events, so that there is no trace of it.")
    about = recording.about
    head = orjson.dumps(
        {
            "exporter": EXPORTER,
            "title": about.title,
            "machine": about.machine,
            "displayTimeUnit": "ms",
        }
    )
    with outputs.file(path) as file:
        file.write(head[:-1] + b',"traceEvents":[\n')
        first = True
        for batch in _batches(recording):
            if batch:
                lines = b",\n".join(orjson.dumps(event) for event in batch)
                file.write(lines if first else b",\n" + lines)
                first = False
        file.write(b"\n]}\n")


def _batches(recording: Recording) -> Iterator[list[dict[str, Any]]]:
    events = recording.events
    lanes = events.texts("lane").values
    processes = {lane: _process(lane) for lane in lanes}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(processes.values()), 1)}
    place = [(numbers[processes[lane]], thread) for thread, lane in enumerate(lanes, 1)]
    yield [_named("process_name", number, 0, name) for name, number in numbers.items()]
    yield [_named("thread_name", *at, lane) for at, lane in zip(place, lanes, strict=True)]
    steps = len(numbers) + 1
    yield _steps(recording.steps, steps)
    yield from _events(recording, place)
    yield from _flows(events, place)
    yield _usage(recording.usage)
    yield _kinds(recording.tensors)


def _process(lane: str) -> str:
    return lane.partition(" ")[0] if " stream " in lane else "threads"


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _steps(table: Table, process: int) -> list[dict[str, Any]]:
    if not table.rows:
        return []
    spans = zip(table.numbers("start").tolist(), table.numbers("end").tolist(), strict=True)
    return [
        _named("process_name", process, 0, "steps"),
        *(
            {
                "ph": "X",
                "cat": STEP,
                "name": f"step {number}",
                "pid": process,
                "tid": 0,
                "ts": _micro(start),
                "dur": _micro(end - start),
            }
            for number, (start, end) in enumerate(spans)
        ),
    ]


def _events(recording: Recording, place: list[tuple[int, int]]) -> Iterator[list[dict[str, Any]]]:
    events, nodes = recording.events, list(recording.nodes.texts("name"))
    keys = _keys(events)
    for begin in range(0, events.rows, _BATCH):
        rows = events.take(np.arange(begin, min(begin + _BATCH, events.rows)))
        lane = rows.texts("lane").codes.tolist()
        texts = {name: list(rows.texts(name)) for name in TEXTS}
        numbers = {
            name: rows.numbers(name).tolist() for name in (*NUMBERS, "step", "node", "cause")
        }
        batch = []
        columns = zip(
            rows.texts("name"),
            rows.texts("kind"),
            rows.numbers("start").tolist(),
            rows.numbers("duration").tolist(),
            strict=True,
        )
        for row, (name, kind, start, duration) in enumerate(columns):
            given: dict[str, Any] = {key: value for key in TEXTS if (value := texts[key][row])}
            for key in NUMBERS:
                value = numbers[key][row]
                if value == value:
                    given[key] = value
            if numbers["step"][row] >= 0:
                given["step"] = numbers["step"][row]
            if (joint := keys.get(begin + row)) is not None:
                given[joint] = begin + row
            if (source := numbers["cause"][row]) >= 0 and source in keys:
                given[keys[source]] = source
            if numbers["node"][row] >= 0:
                given["node"] = nodes[numbers["node"][row]]
            process, thread = place[lane[row]]
            batch.append(
                {
                    "ph": "X",
                    "cat": kind or "other",
                    "name": name,
                    "pid": process,
                    "tid": thread,
                    "ts": _micro(start),
                    "dur": _micro(duration),
                    "args": given,
                }
            )
        yield batch


def _keys(events: Table) -> dict[int, str]:
    """What joins kernels to each row that is a cause, as torch.profiler calls it."""
    cause = events.numbers("cause")
    rows = np.unique(cause[cause >= 0])
    runtime = events.texts("kind").equal("runtime")[rows]
    names = ("External id", "correlation")
    return {row: names[late] for row, late in zip(rows.tolist(), runtime.tolist(), strict=True)}


def _flows(events: Table, place: list[tuple[int, int]]) -> Iterator[list[dict[str, Any]]]:
    cause = events.numbers("cause")
    lane, start = events.texts("lane").codes, events.numbers("start")
    for rows in np.array_split(np.flatnonzero(cause >= 0), max(events.rows // _BATCH, 1)):
        batch = []
        for row, source in zip(rows.tolist(), cause[rows].tolist(), strict=True):
            for phase, at in (("s", source), ("f", row)):
                process, thread = place[lane[at]]
                flow = {
                    "ph": phase,
                    "id": row,
                    "cat": "ac2g",
                    "name": "launches",
                    "pid": process,
                    "tid": thread,
                    "ts": _micro(float(start[at])),
                }
                batch.append({**flow, "bp": "e"} if phase == "f" else flow)
        yield batch


def _usage(usage: Table) -> list[dict[str, Any]]:
    rows = zip(
        usage.numbers("time").tolist(),
        usage.numbers("bytes").tolist(),
        usage.texts("device"),
        strict=True,
    )
    return [_counter(f"memory {device}", time, {"bytes": nbytes}) for time, nbytes, device in rows]


def _kinds(tensors: Table) -> list[dict[str, Any]]:
    """Bytes alive by kind whenever they change, thinned out where that is very often."""
    if not tensors.rows:
        return []
    kinds, sizes = tensors.texts("kind"), tensors.numbers("bytes").astype(float)
    born, died = tensors.numbers("born"), tensors.numbers("died")
    ends = np.flatnonzero(np.isfinite(died))
    time = np.concatenate([born, died[ends]])
    change = np.concatenate([sizes, -sizes[ends]])
    kind = np.concatenate([kinds.codes, kinds.codes[ends]])
    order = np.lexsort((change, time))  # what is freed at the same time first
    time = time[order]
    live = {
        name or "other": np.cumsum(np.where(kind[order] == code, change[order], 0.0))
        for code, name in enumerate(kinds.values)
    }
    last = np.flatnonzero(np.append(np.diff(time) > 0, True))
    last = last[:: max(len(last) // _POINTS, 1)]
    return [
        _counter(
            "tensors", float(time[row]), {name: float(values[row]) for name, values in live.items()}
        )
        for row in last.tolist()
    ]


def _counter(name: str, time: float, values: dict[str, float]) -> dict[str, Any]:
    return {"ph": "C", "name": name, "pid": 0, "ts": _micro(time), "args": values}


def _micro(seconds: float) -> float:
    return round(seconds * 1e6, 3)
