import json

import pytest
from click.testing import CliRunner
from ds_inspector.command import inspect
from recorded import write

BASE = [1.00, 1.01, 1.02, 1.03, 1.04]


@pytest.fixture
def compared(tmp_path):
    """Runs `ds inspect diff` on steps of some lengths."""

    def run(before, after, *options):
        paths = [write(tmp_path / "a.dsrec", before), write(tmp_path / "b.dsrec", after)]
        arguments = ["diff", *map(str, paths), *options]
        return CliRunner().invoke(inspect, arguments, catch_exceptions=False)

    return run


def test_it_tells_what_changed_and_how_sure_that_is(compared):
    told = compared(BASE, [length / 2 for length in BASE])
    assert told.exit_code == 0
    first, *rest = told.output.splitlines()
    assert first.startswith("A step: 1.02 s before, 510 ms after, 0.500 times as long (95% conf")
    rows = [line.split() for line in rest if line.startswith(("encoder.layer.0", "aten::mm"))]
    assert len(rows) == 2
    assert all(row[-1] == "yes" for row in rows)
    assert all("-459" in row for row in rows)


def test_few_steps_are_said_to_be_few(compared):
    assert "fewer than 4 steps" in compared([1.0, 1.1], [2.0, 2.1]).output


def test_json_is_the_difference(compared):
    told = json.loads(compared(BASE, BASE, "--json").output)
    assert told["steps"]["ratio"] == 1.0
    assert not told["modules"][0]["sure"]


@pytest.mark.parametrize(
    ("factor", "limit", "code"),
    [(1.5, "1.05", 1), (1.5, "1.6", 0), (1.0, "1.05", 0), (1.06, "1.05", 0), (0.5, "1.05", 0)],
)
def test_it_fails_only_where_a_step_surely_got_slower(compared, factor, limit, code):
    told = compared(BASE, [length * factor for length in BASE], "--fail-above", limit)
    assert told.exit_code == code
    assert ("more than the" in told.output) == bool(code)


def test_too_few_steps_never_fail(compared):
    assert compared([1.0], [9.0], "--fail-above", "1.05").exit_code == 0
