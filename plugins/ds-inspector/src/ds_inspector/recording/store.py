"""Recordings as files: an SQLite database with a row for each column.

Columns are stored as they lie in memory, without compression: a file cannot grow when it is read,
and a column is read without parsing. What is read is checked against the schema, as files come from
anywhere.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from ds_core.errors import RefusedError
from ds_inspector.recording.recording import About, Recording
from ds_inspector.recording.schema import FORMAT, TABLES, TEXT
from ds_inspector.recording.table import Table, Texts

SUFFIX = ".dsrec"
"""Of files."""

_APPLICATION = 0x64735249  # "dsRI"
_SCHEMA = (
    "CREATE TABLE about (json TEXT NOT NULL)",
    "CREATE TABLE columns (owner TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, "
    "texts TEXT, PRIMARY KEY (owner, name))",
)
_MAGIC = b"SQLite format 3\0"


def save(recording: Recording, path: str | Path) -> Path:
    """Write a recording.

    Args:
        recording: What to write.
        path: Replaced only once the new file is complete.

    Raises:
        RefusedError: It cannot be written there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(partial)) as database, database:
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {FORMAT}")
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute(
                "INSERT INTO about VALUES (?)", [msgspec.json.encode(recording.about).decode()]
            )
            for table in recording.tables.values():
                rows = [(table.name, name, *_packed(table[name])) for name in table]
                database.executemany("INSERT INTO columns VALUES (?, ?, ?, ?)", rows)
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        partial.unlink(missing_ok=True)
        raise RefusedError(
            f"{path} cannot be written: {error}.", mend="See that the folder exists and has room."
        ) from error
    return path


def load(path: str | Path) -> Recording:
    """Read a recording.

    Raises:
        RefusedError: It is no recording, is damaged, or is of a later version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise RefusedError(
                    f"{path} is not a recording.", mend="Record one with ds inspect."
                )
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as database:
            return Recording(*_read(database, path), path=path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}.") from error
    except (sqlite3.Error, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RefusedError(
            f"{path} is damaged: {_first_line(error)}.", mend="Record it again."
        ) from error


def is_recording(path: Path) -> bool:
    """Whether a file begins as a recording does."""
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(_MAGIC) and head[68:72] == _APPLICATION.to_bytes(4, "big")


def _read(database: sqlite3.Connection, path: Path) -> tuple[About, dict[str, Table]]:
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise RefusedError(f"{path} is a database, but not a recording.")
    if version > FORMAT:
        raise RefusedError(
            f"{path} has format {version}, this version reads up to {FORMAT}.",
            mend="pip install --upgrade ds-inspector",
        )
    # Nothing but the tables that are written here: a view could run on without end.
    found = database.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    if sorted(sql for (sql,) in found) != sorted(_SCHEMA):
        raise ValueError("its tables are not those of a recording")
    ((about,),) = database.execute("SELECT json FROM about LIMIT 1").fetchall()
    tables = {}
    for owner in TABLES:
        query = "SELECT name, data, texts FROM columns WHERE owner = ?"
        columns = {
            name: _unpacked(owner, name, data, texts)
            for name, data, texts in database.execute(query, [owner])
        }
        tables[owner] = Table(owner, columns)
    _check_references(tables)
    return msgspec.json.decode(about, type=About), tables


def _packed(values: Any) -> tuple[bytes, str | None]:
    if isinstance(values, Texts):
        return values.codes.tobytes(), orjson.dumps(values.values).decode()
    return values.tobytes(), None


def _unpacked(owner: str, name: str, data: bytes, texts: str | None) -> Any:
    kind = TABLES[owner].get(name)
    if kind is None:
        raise ValueError(f"{owner} has an unknown column")
    if kind != TEXT:
        return np.frombuffer(data, kind)
    values = orjson.loads(texts or "[]")
    codes = np.frombuffer(data, "<u4")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{owner}.{name} is not text")
    if len(codes) and int(codes.max()) >= len(values):
        raise ValueError(f"{owner}.{name} refers to a text that is not there")
    return Texts(codes, values)


_REFERENCES = {
    "events": {"parent": "events", "cause": "events", "node": "nodes", "step": "steps"},
    "edges": {"source": "nodes", "target": "nodes"},
    "tensors": {"node": "nodes", "step": "steps"},
}


def _check_references(tables: dict[str, Table]) -> None:
    for owner, columns in _REFERENCES.items():
        for name, other in columns.items():
            numbers = tables[owner].numbers(name)
            if len(numbers) and not -1 <= numbers.min() <= numbers.max() < tables[other].rows:
                raise ValueError(f"{owner}.{name} refers to a row that is not there")
    parents = tables["events"].numbers("parent")
    if (parents >= np.arange(len(parents))).any():
        raise ValueError("an event comes before its parent")


def _first_line(error: Exception) -> str:
    if isinstance(error, (msgspec.MsgspecError, RecursionError)):
        return "what it says about itself cannot be understood"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
