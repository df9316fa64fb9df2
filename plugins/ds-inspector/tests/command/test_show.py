import json

import pytest
from click.testing import CliRunner
from ds_inspector.command import inspect
from recorded import write

from ds_core.errors import RefusedError


def run(*arguments):
    return CliRunner().invoke(inspect, ["show", *map(str, arguments)], catch_exceptions=False)


def test_it_tells_what_a_recording_has(tmp_path):
    told = run(write(tmp_path / "run.dsrec", [1.0, 2.0, 3.0])).output
    for part in (
        "net.py",
        "3 steps, median 2 s (1 s to 3 s)",
        "forward 5.4 s; 10.0% of the time is no module's",
        "collector time: 1.05x the time of a step (torch.profiler)",
        "The graph is missing: it cannot be exported.",
        "aten::mm",
        "peaks measured here: float32 1 TFLOP/s, 9.313 GiB/s",
        "peak 1 MiB at 0.000 s",
    ):
        assert part in told
    (row,) = [line for line in told.splitlines() if line.startswith("aten::mm")]
    assert row.split()[1:] == [
        "3",
        "5.4",
        "s",
        "100%",
        "5.4",
        "s",
        "-",
        "291",
        "GFLOP/s",
        "29%",
        "compute",
    ]


def test_json_has_the_same(tmp_path):
    told = json.loads(run(write(tmp_path / "run.dsrec", [1.0, 2.0]), "--json").output)
    assert told["totals"]["seconds"] == pytest.approx(3.0)
    assert told["operators"][0]["op"] == "aten::mm"
    assert told["operators"][0]["bytes"] is None
    assert isinstance(told["findings"], list)


def test_names_from_a_file_cannot_move_the_cursor(tmp_path):
    path = write(tmp_path / "run.dsrec", [1.0], name="aten::\x1b[2Jmm\n", module="\x1b]0;x\x07")
    assert "\x1b" not in run(path).output


def test_what_is_no_recording_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RefusedError):
        run(tmp_path / "notes.txt")
