"""A training's record, and the pictures made of it."""

import itertools
import json
import subprocess
import sys

import pytest
from ds_dmp.history import History
from ds_dmp.picture import draw
from training import Offset, Overflowing, attach, details, dtypes, train

from ds_core.errors import ConfigError, DsError


@pytest.fixture
def run(emulated, tmp_path):
    path = tmp_path / "run.jsonl"
    with attach(Overflowing(), emulated, dtypes=["fp16"], trace=path) as session:
        train(session, 30)
        return path, dtypes(session), details(session)


def test_spans_say_what_the_session_said(run):
    path, found, told = run
    history = History.read(path)
    assert {unit: history.spans(unit)[-1].dtype for unit in history.units} == found
    assert len(history.flips) == told["flips"]
    assert history.summary()["share"] == pytest.approx(told["16-bit share of multiply-adds"], 0.05)
    for unit in history.units:
        spans = history.spans(unit)
        assert spans[0].first == 0
        assert spans[-1].end == history.steps
        assert all(a.end == b.first for a, b in itertools.pairwise(spans))


def ds(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ds_core", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command_draws_and_says_what_changed(run):
    path = run[0]
    done = ds("dmp", "trace", path)
    assert done.returncode == 0, done.stderr
    assert "blocks.1.0 fp16 -> fp32, inf or nan arose in forward" in done.stdout
    page = path.with_suffix(".html").read_text()
    assert "blocks.1.0: fp32, steps" in page
    assert "loss scale, from 2^" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    told = json.loads(ds("dmp", "trace", path, "--json").stdout)
    assert told["units"] == 5


def test_a_png_has_pixels_of_every_dtype(run, tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "run.png"
    draw(History.read(run[0]), path)
    pixels = {tuple((pixel[:3] * 255).round().astype(int)) for row in imread(path) for pixel in row}
    assert {(0x3D, 0x7D, 0xCA), (0xE7, 0x6F, 0x51)} <= pixels


def test_without_matplotlib_a_png_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DsError, match=r"ds-dmp\[picture\]"):
        draw(History.read(run[0]), tmp_path / "run.png")


def test_a_trace_that_was_cut_off_is_read_as_far_as_it_goes(run):
    path = run[0]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:20]]))
    assert len(History.read(path).looks) == len(lines) - 2


@pytest.mark.parametrize("content", ["", "{}", "nonsense", '{"format": 2}', "[1]\n[2]"])
def test_other_files_are_no_traces(tmp_path, content):
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    done = ds("dmp", "trace", path)
    assert done.returncode != 0
    assert f"{path} is no trace" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.jsonl"], "Cannot read the trace missing.jsonl"),
        (["{run}", "-o", "picture.pdf"], "No picture can be drawn as 'picture.pdf'"),
        (["{run}", "-o", "/proc/none/picture.svg"], "Cannot write /proc/none/picture.svg"),
        (["{run}", "-o", "{run}"], "would overwrite"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, arguments, said):
    done = ds("dmp", "trace", *[text.format(run=run[0]) for text in arguments])
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_refused_before_training(emulated, tmp_path):
    model = Offset()
    with pytest.raises(ConfigError, match="cannot write its trace"):
        attach(model, emulated, trace=tmp_path / "none" / "run.jsonl")
    assert type(model) is Offset


def test_a_full_disk_ends_the_trace_and_not_the_training(emulated):
    with pytest.warns(RuntimeWarning, match="/dev/full ends here: No space left"):
        session = attach(Offset(), emulated, trace="/dev/full")
    with session:
        train(session, 6)
        assert dtypes(session)["first"] == "fp32"
