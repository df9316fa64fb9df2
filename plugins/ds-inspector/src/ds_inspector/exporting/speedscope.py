"""Profiles for speedscope: https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson

from ds_core.errors import RefusedError
from ds_inspector.exporting.writing import Outputs
from ds_inspector.recording import Recording, Table

_BATCH = 8192


def write(recording: Recording, path: Path, outputs: Outputs) -> None:
    """Write a profile of opened and closed frames for each lane."""
    events = recording.events
    if not events.rows:
        raise RefusedError("The recording has no events, so that there is no profile of it.")
    names, sources = events.texts("name"), events.texts("source")
    pairs = names.codes.astype(np.int64) * len(sources.values) + sources.codes
    distinct, frames = np.unique(pairs, return_inverse=True)
    shared = [
        _frame(
            names.values[pair // len(sources.values)], sources.values[pair % len(sources.values)]
        )
        for pair in distinct.tolist()
    ]
    head = orjson.dumps(
        {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "ds-inspector",
            "name": recording.about.title,
            "activeProfileIndex": 0,
            "shared": {"frames": shared},
        }
    )
    lanes = events.texts("lane")
    with outputs.file(path) as file:
        file.write(head[:-1] + b',"profiles":[')
        begun = False
        for code, lane in enumerate(lanes.values):
            rows = np.flatnonzero(lanes.codes == code)
            if len(rows):
                file.write(b",\n" if begun else b"\n")
                _profile(file, lane, events, rows, frames)
                begun = True
        file.write(b"\n]}\n")


def _frame(name: str, source: str) -> dict[str, Any]:
    path, _, line = source.rpartition(":")
    if path and line.isdigit():
        return {"name": name, "file": path, "line": int(line)}
    return {"name": name}


def _profile(file: IO[bytes], lane: str, events: Table, rows: Any, frames: Any) -> None:
    start = np.rint(events.numbers("start")[rows] * 1e9).astype(np.int64)
    end = start + np.rint(events.numbers("duration")[rows] * 1e9).astype(np.int64)
    order = np.lexsort((start - end, start))
    start, end, frames = start[order], end[order], frames[rows][order]
    head = {
        "type": "evented",
        "name": lane or "events",
        "unit": "microseconds",
        "startValue": int(start[0]) / 1000,
        "endValue": int(end.max()) / 1000,
    }
    file.write(orjson.dumps(head)[:-1] + b',"events":[')
    batch: list[bytes] = []
    begun = False
    for kind, frame, at in _balanced(start.tolist(), end.tolist(), frames.tolist()):
        batch.append(b'{"type":"%b","frame":%d,"at":%b}' % (kind, frame, orjson.dumps(at / 1000)))
        if len(batch) >= _BATCH:
            file.write((b",\n" if begun else b"") + b",\n".join(batch))
            batch, begun = [], True
    file.write((b",\n" if begun and batch else b"") + b",\n".join(batch) + b"]}")


def _balanced(
    starts: list[int], ends: list[int], frames: list[int]
) -> Iterator[tuple[bytes, int, int]]:
    """Frames opened and closed in order of time, the last that was opened first.

    An event that outlasts the one it begins in is cut where that ends.
    """
    open_: list[tuple[int, int]] = []
    for start, end, frame in zip(starts, ends, frames, strict=True):
        while open_ and open_[-1][0] <= start:
            until, last = open_.pop()
            yield b"C", last, until
        if open_:
            end = min(end, open_[-1][0])
        yield b"O", frame, start
        open_.append((max(end, start), frame))
    while open_:
        until, last = open_.pop()
        yield b"C", last, until
