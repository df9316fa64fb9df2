"""Files appear whole or not at all."""

import errno
from pathlib import Path

import pytest
from ds_inspector.exporting import KINDS, export

from ds_core.errors import ConfigError, RefusedError


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_not_overwritten(full, tmp_path, kind):
    path = tmp_path / "out.json"
    path.write_text("mine")
    with pytest.raises(RefusedError, match=r"is there already.*--force"):
        export(full, kind, path)
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]
    assert path in export(full, kind, path, force=True)
    assert path.is_dir() if kind == "csv" else path.read_text() != "mine"


def test_a_second_file_that_is_there_keeps_the_first_from_being_written(full, tmp_path):
    (tmp_path / "graph.seconds.json").write_text("mine")
    with pytest.raises(RefusedError, match="seconds"):
        export(full, "model-explorer", tmp_path / "graph.json")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.seconds.json"]


class Full:
    """A file on a disk without room."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["out", "out.gz", "out.zip"])
def test_a_full_disk_leaves_nothing(full, tmp_path, monkeypatch, kind, name):
    opened = Path.open

    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *args, **kwargs: (
            Full(opened(self, mode, *args, **kwargs))
            if "w" in mode
            else opened(self, mode, *args, **kwargs)
        ),
    )
    if kind == "csv" and name.endswith(".zip"):
        monkeypatch.setattr("zipfile.ZipFile.open", _no_space)
    with pytest.raises(RefusedError, match=r"cannot be written: No space left on device.*room"):
        export(full, kind, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def _no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_folders_that_are_not_there(full, tmp_path):
    for kind in KINDS:
        with pytest.raises(RefusedError, match="cannot be written"):
            export(full, kind, tmp_path / "missing" / "out.json")


def test_formats_that_are_not_there(full, tmp_path):
    with pytest.raises(ConfigError, match="'chrome'"):
        export(full, "chrom", tmp_path / "out")
