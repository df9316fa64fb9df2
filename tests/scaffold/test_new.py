"""`ds plugins new`: what it writes works as it is, and what it cannot write leaves nothing."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds_core.cli.main import ds
from ds_core.registry import installed
from ds_core.requirement import is_met
from ds_core.scaffold.names import SUMMARIES, Names, requirement
from ds_core.scaffold.new import TEMPLATES, render
from tests.installing import environment, run

ROOT = Path(__file__).resolve().parents[2]
KINDS = list(SUMMARIES)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,11}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)


def new(*arguments):
    installed.cache_clear()
    return CliRunner().invoke(ds, ["plugins", "new", *map(str, arguments)])


def held(folder):
    return [path.name for path in folder.iterdir()]


# What it writes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A plugin of each kind, made and installed as a user would."""
    folder = tmp_path_factory.mktemp("made")
    variables = environment(tmp_path_factory.mktemp("installed") / "here")
    for kind in KINDS:
        name = f"ds-hello-{kind}"
        done = run("ds_core", "plugins", "new", name, "--kind", kind, cwd=folder, **variables)
        assert done.returncode == 0, done.stderr
    folders = [f"./ds-hello-{kind}" for kind in KINDS]
    done = run("pip", "install", "-q", *folders, cwd=folder, **variables)
    assert done.returncode == 0, done.stderr
    return folder, variables


@pytest.fixture(scope="module")
def tested(made):
    """What their own tests said, two at a time."""
    folder, variables = made

    def test(kind):
        command = ("pytest", "-x", "-q", "-p", "no:cacheprovider")
        return run(*command, cwd=folder / f"ds-hello-{kind}", **variables)

    with ThreadPoolExecutor(2) as pool:
        # The longest first.
        yield {kind: pool.submit(test, kind) for kind in sorted(KINDS, reverse=True)}


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass(tested, kind):
    done = tested[kind].result()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\d\d passed", done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_listed_and_described(made, kind):
    folder, variables = made
    listed = run("ds_core", "plugins", "list", "--json", cwd=folder, **variables)
    (record,) = [
        record
        for record in json.loads(listed.stdout)
        if record["distribution"] == f"ds-hello-{kind}"
    ]
    assert (record["kind"], record["name"]) == (kind, f"hello-{kind}")
    assert record["status"] == "ok"
    told = run("ds_core", "plugins", "info", f"hello-{kind}", "--json", cwd=folder, **variables)
    (info,) = json.loads(told.stdout)
    assert info["status"] == "ok"
    assert info["requirement_met"]
    assert info["doc"] == f"{record['summary']}."
    assert info["summary"] == SUMMARIES[kind]
    assert kind == "command" or info["options"]
    assert all(option["doc"] for option in info["options"])


def test_a_command_runs(made):
    folder, variables = made
    done = run("ds_core", "hello-command", cwd=folder, **variables)
    assert done.returncode == 0
    assert re.search(r"^command +\d+ installed, \d+ usable", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_its_code_is_in_good_style(made, arguments):
    folder, variables = made
    done = run("ruff", *arguments, "--no-cache", ".", cwd=folder, **variables)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_its_names_may_differ(kind, tmp_path):
    done = new("mine", "--kind", kind, "--component", "not-mine", "--dir", tmp_path, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["component"] == "not-mine"
    assert Path(told["folder"]) == tmp_path / "mine"
    assert all((tmp_path / "mine" / file).is_file() for file in told["files"])
    project = tomllib.loads((tmp_path / "mine/pyproject.toml").read_text())["project"]
    (points,) = project["entry-points"].values()
    (value,) = points.values()
    assert list(points) == ["not-mine"]
    module, attribute = value.split(":")
    tree = ast.parse((tmp_path / "mine/src" / f"{module.replace('.', '/')}.py").read_text())
    assert attribute in {getattr(node, "name", None) for node in tree.body}


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy otherwise
@given(kind=st.sampled_from(KINDS), distribution=NAMES, component=NAMES)
def test_any_name_makes_files_that_can_be_read(kind, distribution, component):
    files = render(Names(kind, distribution, component))
    for path, text in files.items():
        assert "PACKAGE" not in path
        if path.endswith(".py"):
            ast.parse(text)
            assert max(map(len, text.splitlines()), default=0) <= 100
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == distribution
    assert is_met(project["dependencies"][0])
    assert "${{ matrix.python }}" in files[".github/workflows/test.yml"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.1.0", "ds-core>=0.1,<0.2"),
        ("0.12.3", "ds-core>=0.12,<0.13"),
        ("1.0.0", "ds-core>=1.0,<2"),
        ("2.4.7", "ds-core>=2.4,<3"),
        ("0.2.0.dev1", "ds-core>=0.2.0.dev1,<0.3"),
    ],
)
def test_the_requirement_follows_the_version(version, expected):
    assert requirement(version) == expected


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "ds-mine").mkdir()
    assert new("ds-mine", "--kind", "pruner", "--dir", tmp_path).exit_code == 0
    assert held(tmp_path) == ["ds-mine"]


def test_others_may_read_it_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        new("ds-mine", "--kind", "pruner", "--dir", tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "ds-mine").stat().st_mode & 0o777 == 0o755


def test_the_wheel_has_all_templates(tmp_path):
    done = run(
        *("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)),
        str(ROOT),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    templates = [path for path in TEMPLATES.rglob("*") if path.is_file()]
    assert len(templates) > 30
    for path in templates:
        assert path.relative_to(ROOT).as_posix() in packed


# What it cannot write


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Ds_Mine"], "Try 'ds-mine'"),
        (["ds mine"], "Try 'ds-mine'"),
        (["ds--mine"], "Try 'ds-mine'"),
        (["8bit"], "begins with a letter"),
        (["../mine"], "Try 'mine'"),
        (["-"], "single hyphens"),
        ([""], "single hyphens"),
        (["mïne"], "single hyphens"),
        (["ds-mine", "--component", "Mine"], "Try 'mine'"),
        (["ds-mine", "--component", ""], "single hyphens"),
        (["ds-core"], "'ds-core' is installed here already"),
        (["importlib-metadata"], "'importlib-metadata' is installed here already"),
        (["json"], "Python's own"),
        (["class"], "Python's own"),
        (["ds-finite"], "ds-core .* has observer 'finite' already"),
        (["ds-mine", "--component", "none"], "settings use that word"),
    ],
)
def test_a_name_that_will_not_do(arguments, says, tmp_path):
    done = new(*arguments[1:], "--kind", "observer", "--dir", tmp_path, "--", arguments[0])
    assert done.exit_code == 1
    assert re.search(says, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not held(tmp_path)


def test_a_builtin_command_is_not_replaced(tmp_path):
    done = new("ds-demo", "--kind", "command", "--dir", tmp_path)
    assert "`ds demo` is a command of ds itself" in done.stderr
    assert new("ds-demo", "--kind", "observer", "--dir", tmp_path).exit_code == 0


def test_a_package_that_hides_another(tmp_path, monkeypatch):
    (tmp_path / "somebodys.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    done = new("somebodys", "--kind", "observer", "--dir", tmp_path)
    assert f"{tmp_path / 'somebodys.py'} is imported under that name" in done.stderr


@pytest.mark.parametrize("kind", ["model", "nothing"])
def test_a_kind_that_cannot_be_made(kind, tmp_path):
    done = new("ds-mine", "--kind", kind, "--dir", tmp_path)
    assert done.exit_code == 2
    assert not held(tmp_path)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "ds-mine").mkdir()
    (tmp_path / "ds-mine/thesis.txt").write_text("all of it")
    done = new("ds-mine", "--kind", "pruner", "--dir", tmp_path)
    assert done.exit_code == 1
    assert "is not an empty folder" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["ds-mine", "thesis.txt"]


def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "ds-mine").write_text("all of it")
    assert "is not an empty folder" in new("ds-mine", "--kind", "pruner", "--dir", tmp_path).stderr
    assert (tmp_path / "ds-mine").read_text() == "all of it"


def test_a_name_that_is_too_long_for_a_folder(tmp_path):
    done = new("m" * 300, "--kind", "pruner", "--dir", tmp_path)
    assert done.exit_code == 1
    assert "cannot be written: File name too long" in done.stderr
    assert not held(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    done = new("ds-mine", "--kind", "pruner", "--dir", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "There is no folder" in done.stderr
    assert not held(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written():
    done = new("ds-mine", "--kind", "pruner", "--dir", "/proc")
    assert done.exit_code == 1
    assert "'/proc/ds-mine' cannot be written" in done.stderr
    assert "Choose another --dir" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_is_full_keeps_nothing(tmp_path):
    # The licence is longer than a file may be here, which the system reports as it does no room.
    command = f"ulimit -f 8; exec {sys.executable} -m ds_core plugins new ds-mine --kind pruner"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot be written: File too large; nothing was left. Make room" in done.stderr
    assert not held(tmp_path)
