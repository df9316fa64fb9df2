"""All tables as comma-separated values: RFC 4180, UTF-8."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray

from ds_inspector.exporting.writing import Outputs
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.table import Column, Texts

_BATCH = 16384


def write(recording: Recording, path: Path, outputs: Outputs) -> None:
    """Write a file for each table and `about.json` into a folder, or a zip if the name ends so."""
    about = msgspec.json.format(msgspec.json.encode(recording.about))
    partial = outputs.reserve(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            for name, table in recording.tables.items():
                with archive.open(f"{name}.csv", "w", force_zip64=True) as file:
                    _write(table, file)
            archive.writestr("about.json", about)
        return
    partial.mkdir()
    for name, table in recording.tables.items():
        with (partial / f"{name}.csv").open("wb") as file:
            _write(table, file)
    (partial / "about.json").write_bytes(about)


def _write(table: Table, file: IO[bytes]) -> None:
    with io.TextIOWrapper(file, encoding="utf-8", newline="", errors="replace") as text:
        writer = csv.writer(text)
        writer.writerow(table)
        for begin in range(0, table.rows, _BATCH):
            rows = np.arange(begin, min(begin + _BATCH, table.rows))
            writer.writerows(zip(*(_values(table[name], rows) for name in table), strict=True))


def _values(column: Column, rows: NDArray[np.int64]) -> Iterator[object]:
    if isinstance(column, Texts):
        return iter(column.take(rows))
    values = column[rows].tolist()
    if column.dtype.kind == "f":  # what is unknown is empty
        return ("" if value != value else value for value in values)
    return iter(values)
