"""Tables as comma-separated values."""

import csv
import io
import json
import zipfile

import pytest
from ds_inspector.exporting import export
from hypothesis import given, settings
from made import recordings


def columns(text):
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


@settings(deadline=None, max_examples=40)
@given(recordings)
def test_all_values_come_back(tmp_path_factory, recording):
    path = tmp_path_factory.getbasetemp() / "tables.zip"
    export(recording, "csv", path, force=True)
    with zipfile.ZipFile(path) as archive:
        text = archive.read("events.csv").decode()
    assert text.count("\r\n") > recording.events.rows  # RFC 4180
    found, events = columns(text), recording.events
    assert found["name"] == list(events["name"])
    assert [float(value) for value in found["start"]] == events["start"].tolist()
    assert [int(value) for value in found["parent"]] == events["parent"].tolist()
    assert set(found["flops"]) == {""}


def test_folder_with_a_file_for_each_table(full, tmp_path):
    export(full, "csv", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*(f"{name}.csv" for name in full.tables), "about.json"]
    )
    assert json.loads((tmp_path / "out" / "about.json").read_text())["title"] == "full"
    tensors = columns((tmp_path / "out" / "tensors.csv").read_bytes().decode())
    assert tensors["died"] == ["inf", "0.003", "0.005"]


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_is_there_is_replaced_only_when_told(full, tmp_path, name):
    export(full, "csv", tmp_path / name)
    export(full, "csv", tmp_path / name, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
