"""Files of recordings: what is written is read again, and nothing else is."""

import sqlite3
from contextlib import closing, suppress

import numpy as np
import pytest
from ds_inspector.recording import FORMAT, Recording, Table, Texts, load
from ds_inspector.recording.recording import About
from ds_inspector.recording.schema import TABLES, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.errors import DsError, RefusedError

LIMITS = {"<i4": 2**31 - 1, "<i8": 2**63 - 1}


@st.composite
def recordings(draw):
    """Any values in any columns; references stay within their tables."""
    tables = {}
    for name, kinds in TABLES.items():
        rows = draw(st.integers(0, 4))
        columns = {}
        for column, kind in kinds.items():
            if kind == TEXT:
                values = st.text(max_size=5)
            elif kind == "<f8":
                values = st.floats()
            elif kind == "<i8":
                values = st.integers(-LIMITS[kind], LIMITS[kind])
            else:
                values = st.just(-1)
            columns[column] = draw(st.lists(values, min_size=rows, max_size=rows))
        tables[name] = Table(name, columns)
    return Recording(About(title=draw(st.text()), origin="test"), tables)


@settings(deadline=None, max_examples=30)
@given(recording=recordings())
def test_what_is_saved_is_loaded(tmp_path_factory, recording):
    path = tmp_path_factory.mktemp("saved") / "a.dsrec"
    found = load(recording.save(path))
    assert found.about == recording.about
    assert found.path == path
    for name, table in recording.tables.items():
        assert found.tables[name].rows == table.rows
        for column, values in table.items():
            other = found.tables[name][column]
            if isinstance(values, Texts):
                assert list(other) == list(values)
            else:
                assert np.array_equal(other, values, equal_nan=values.dtype.kind == "f")


@pytest.fixture
def saved(tmp_path):
    events = {"start": [0.0, 1.0], "duration": [2.0, 0.5], "parent": [-1, 0], "name": ["a", "b"]}
    recording = Recording(About(title="t", origin="torch"), {"events": Table("events", events)})
    return recording.save(tmp_path / "a.dsrec")


def changed(path, *statements):
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)
    return path


def test_a_later_format_is_refused_with_the_mend(saved):
    changed(saved, f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(RefusedError, match="pip install --upgrade ds-inspector"):
        load(saved)


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other.dsrec"
    other.write_bytes(b"MZ" * 100)
    with pytest.raises(RefusedError, match="is not a recording"):
        load(other)
    with pytest.raises(RefusedError, match="cannot be read"):
        load(tmp_path / "nowhere.dsrec")
    changed(tmp_path / "database", "CREATE TABLE t (x)")
    with pytest.raises(RefusedError, match="is a database, but not a recording"):
        load(tmp_path / "database")


ENDLESS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT '{}' AS json FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TABLE about", f"CREATE VIEW about AS {ENDLESS}"),
        ("CREATE TABLE more (x)",),
        ("UPDATE columns SET data = x'00'",),
        ("UPDATE columns SET data = x'0900000009000000' WHERE name = 'name'",),
        ("UPDATE columns SET data = x'0100000000000000' WHERE name = 'parent'",),
        ("UPDATE columns SET data = x'ffffffff09000000' WHERE name = 'parent'",),
        ("UPDATE columns SET texts = '[1, 2]'",),
        ("UPDATE columns SET texts = '[' WHERE name = 'name'",),
        ("UPDATE columns SET name = 'no' WHERE name = 'start'",),
        ("UPDATE about SET json = '[]'",),
        ('UPDATE about SET json = \'{"x": ' + "[" * 3000 + "]" * 3000 + "}'",),
        ("DELETE FROM about",),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(saved, statements):
    with pytest.raises(RefusedError, match="is damaged"):
        load(changed(saved, *statements))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damaged_bytes_give_a_recording_or_a_sentence(tmp_path_factory, data):
    path = Recording(About(title="t", origin="torch")).save(
        tmp_path_factory.mktemp("damaged") / "a.dsrec"
    )
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(16, len(content) - 1), min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(DsError):
        load(path)


def test_what_cannot_be_written_leaves_the_old_file(saved, tmp_path):
    before = saved.read_bytes()
    with pytest.raises(RefusedError, match="cannot be written"):
        Recording(About(title="t", origin="torch")).save(tmp_path / "nowhere" / "a.dsrec")
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.dsrec"]


def test_columns_of_other_lengths_or_names_are_mistakes():
    with pytest.raises(ValueError, match="lengths"):
        Table("events", {"start": [0.0], "duration": []})
    with pytest.raises(ValueError, match="no column"):
        Table("events", {"begin": [0.0]})
