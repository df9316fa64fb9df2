import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ds_core.cli.main import ds as cli
from ds_core.switches import config_file
from tests.distributions import install

CLEAN = "torch", "pydantic", "stevedore", "pluggy", "good", "broken", "ahead", "twin_a"

TELL = """
import atexit, os, sys
path = os.environ.get("DS_TEST_MODULES")
if path:
    atexit.register(lambda: open(path, "w").write("\\n".join(sys.modules)))
"""


def rows(text):
    """Cells of a printed table by the first two, and the lines under it."""
    lines = text.splitlines()
    head = lines[0]
    starts = [head.index(word) for word in head.split()]
    ends = [*starts[1:], None]
    table, rest = {}, []
    for line in lines[1:]:
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if ":" in cells[0] or ":" in line.split()[1]:
            rest.append(line)
        else:
            table[cells[0], cells[1], cells[2]] = cells[3:]
    return table, rest


def imported(ds, site, tmp_path, *args):
    (site / "sitecustomize.py").write_text(TELL)
    result = ds(*args, DS_TEST_MODULES=str(tmp_path / "modules"))
    return result, set((tmp_path / "modules").read_text().splitlines())


@pytest.mark.parametrize("args", [["plugins", "list"], ["plugins", "list", "--kind", "pruner"], []])
def test_listing_imports_neither_torch_nor_any_plugin(ds, zoo, tmp_path, args):
    result, modules = imported(ds, zoo, tmp_path, *args)
    assert not result.stderr or not args
    assert "click" in modules
    assert not modules & set(CLEAN)


@pytest.mark.parametrize(
    "args",
    [
        ["plugins", "list", "--json"],
        ["plugins", "info", "good"],
        ["plugins", "disable", "good"],
        ["backends"],
        ["backends", "--json"],
        ["config", "show"],
        ["version"],
        ["version", "--json"],
        ["explain", "--help"],
        ["demo", "--help"],
    ],
)
def test_what_does_not_compute_imports_no_torch(ds, zoo, tmp_path, args):
    result, modules = imported(ds, zoo, tmp_path, *args)
    assert result.returncode == 0, result.stderr
    assert "torch" not in modules


def test_list_shows_each_state_and_why(ds, zoo):
    result = ds("plugins", "list", "--kind", "pruner", DS_DISABLE_PLUGINS="magnitude")
    assert result.returncode == 0
    table, reasons = rows(result.stdout)
    states = {key[2]: (value[0], value[1]) for key, value in table.items()}
    states.pop("ds-prune", None)  # where the plugin is installed
    assert states == {
        "ds-core": (states["ds-core"][0], "disabled"),
        "ds-good": ("1.2.3", "ok"),
        "ds-broken": ("1.2.3", "ok"),  # nobody has tried yet
        "ds-ahead": ("1.2.3", "incompatible"),
        "ds-twin-a": ("1.2.3", "clash"),
        "ds-twin-b": ("1.2.3", "clash"),
    }
    assert table["pruner", "good", "ds-good"][2] == "A pruner that works"
    text = "\n".join(reasons)
    assert len(reasons) == 4
    assert "ds-ahead 1.2.3 needs ds-core>=99" in text
    assert "'ds-twin-a:twin' or 'ds-twin-b:twin'" in text
    assert "DS_DISABLE_PLUGINS" in text


def test_list_as_json_has_stable_keys(invoke, zoo):
    result = invoke("plugins", "list", "--kind", "pruner", "--json")
    found = json.loads(result.stdout)
    assert {tuple(record) for record in found} == {
        (
            "kind",
            "name",
            "distribution",
            "version",
            "summary",
            "value",
            "requirement",
            "status",
            "reason",
            "home",
        )
    }
    good = next(record for record in found if record["name"] == "good")
    assert good["home"] == "https://example.org/good"
    assert good["value"] == "good:good"


def test_colours_only_on_a_terminal_and_not_where_they_are_unwanted(zoo, invoke, monkeypatch):
    def output(**options):
        return CliRunner().invoke(cli, ["plugins", "list"], **options).output

    assert "\x1b[" not in output()
    assert "\x1b[" in output(color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in output(color=True)


def test_a_reader_that_leaves_early_hears_no_complaint(ds, zoo, tmp_path):
    # A pipe whose reader is gone before anything is written.
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [str(Path(sys.executable).with_name("ds")), "plugins", "list"],
        env={**os.environ, "PYTHONPATH": str(zoo)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert result.stderr == ""


def test_info_shows_options_hooks_and_origin(invoke, zoo):
    text = invoke("plugins", "info", "good").stdout
    for part in (
        "ds-good 1.2.3",
        "A pruner that works",
        "https://example.org/good",
        "ds-core>=0.1 (met)",
        "ds_after_step",
        "Removes weights that are in the way.",
        "Steps to wait.",
        "(required)",
    ):
        assert part in text
    assert "More of it here" not in text


def test_info_as_json_gives_the_schema(invoke, zoo):
    (found,) = json.loads(invoke("plugins", "info", "good", "--json").stdout)
    assert found["requirement_met"] is True
    assert found["hooks"] == ["ds_after_step"]
    assert found["options"] == [
        {
            "name": "patience",
            "type": "int",
            "required": False,
            "default": 3,
            "doc": "Steps to wait.",
        },
        {
            "name": "ratio",
            "type": "float",
            "required": True,
            "default": None,
            "doc": "How much goes.",
        },
    ]
    assert found["config_schema"]["properties"]["patience"]["description"] == "Steps to wait."


def test_info_tells_why_one_cannot_be_loaded(invoke, zoo):
    (broken,) = json.loads(invoke("plugins", "info", "broken", "--json").stdout)
    assert broken["status"] == "broken"
    assert "No module named 'no_such_module_here'" in broken["reason"]
    (ahead,) = json.loads(invoke("plugins", "info", "ahead", "--json").stdout)
    assert (ahead["status"], ahead["requirement_met"]) == ("incompatible", False)
    assert "ahead" not in sys.modules
    assert ahead["config_schema"] is None


def test_info_of_a_clash_or_a_distribution_shows_all(invoke, zoo):
    twins = json.loads(invoke("plugins", "info", "twin", "--json").stdout)
    assert [twin["distribution"] for twin in twins] == ["ds-twin-a", "ds-twin-b"]
    assert all(twin["config_schema"] for twin in twins)
    own = json.loads(invoke("plugins", "info", "ds-core", "--json", "--kind", "precision").stdout)
    assert {record["name"] for record in own} == {"auto", "bf16", "fp16", "fp32"}


def test_info_of_nothing_names_what_is_near(invoke, zoo, monkeypatch):
    result = invoke("plugins", "info", "goood")
    assert result.exit_code == 1
    assert "Did you mean 'good'?" in result.stderr
    monkeypatch.setattr("ds_core.registry._known_plugins", lambda kind: {"okapi": "ds-okapi"})
    assert "pip install ds-okapi" in invoke("plugins", "info", "okapi").stderr


def test_disable_and_enable(ds, zoo, tmp_path):
    assert ds("plugins", "disable", "good").returncode == 0
    assert ds("plugins", "disable", "good").returncode == 0
    table, reasons = rows(ds("plugins", "list", "--kind", "pruner").stdout)
    assert table["pruner", "good", "ds-good"][1] == "disabled"
    assert any("ds plugins enable good" in reason for reason in reasons)
    refused = ds("explain", "--pruner", "good")
    assert refused.returncode == 1
    assert "switched off" in refused.stderr
    assert ds("plugins", "enable", "good").returncode == 0
    table, _ = rows(ds("plugins", "list", "--kind", "pruner").stdout)
    assert table["pruner", "good", "ds-good"][1] == "ok"


def test_switching_keeps_the_rest_of_the_users_file(invoke, zoo):
    file = config_file()
    file.write_text('# mine\n[other]\nkey = 1  # kept\n[plugins]\ndisabled = ["gone"]\n')
    assert invoke("plugins", "disable", "good").exit_code == 0
    text = file.read_text()
    assert "# mine" in text
    assert "key = 1  # kept" in text
    assert invoke("plugins", "enable", "gone").exit_code == 0  # not installed, but in the list
    assert invoke("plugins", "enable", "gone").exit_code == 1


@pytest.mark.parametrize("action", ["enable", "disable"])
def test_switching_what_is_not_there_names_what_is_near(invoke, zoo, action):
    result = invoke("plugins", action, "goood")
    assert result.exit_code == 1
    assert "Did you mean 'good'?" in result.stderr
    assert not config_file().exists()


def test_enable_says_what_still_switches_it_off(invoke, zoo, monkeypatch):
    invoke("plugins", "disable", "ds-good")
    result = invoke("plugins", "enable", "good")
    assert "ds plugins enable ds-good" in result.output
    monkeypatch.setenv("DS_DISABLE_PLUGINS", "good")
    assert "DS_DISABLE_PLUGINS" in invoke("plugins", "enable", "ds-good", "--json").output


def test_a_users_file_that_is_no_toml_is_one_sentence(invoke, zoo):
    config_file().write_text("[plugins\n")
    result = invoke("plugins", "list")
    assert result.exit_code == 1
    assert str(config_file()) in result.stderr
    assert "Traceback" not in result.stderr


def test_metadata_that_nobody_can_read_hides_only_itself(invoke, zoo):
    install(zoo, "ds-bytes", {"ds.passes.pruner": {"bytes": "bytes:X"}})
    (zoo / "ds_bytes-1.2.3.dist-info" / "entry_points.txt").write_bytes(b"[ds.backends]\n\xff = x")
    names = {record["name"] for record in json.loads(invoke("plugins", "list", "--json").stdout)}
    assert "good" in names
    assert "bytes" not in names
