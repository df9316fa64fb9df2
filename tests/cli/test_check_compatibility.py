import json
import os
import subprocess
import sys

import pytest

from ds_core.commands import COMMANDS
from ds_core.registry import Registry
from tests.compatibility.targets import add
from tests.compatibility.test_sarif import valid
from tests.distributions import install

TRAIN = "import torch\n\nmodel = torch.nn.Linear(2, 2).cuda()\ntorch.cuda.synchronize()\n"
KERNEL = "#include <cuda_runtime.h>\nvoid f() { cudaMalloc(0, 1); cudaNew(); ncclGo(); }\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "machine"
    folder.mkdir()
    return str(folder)


def test_a_clean_machine_exits_with_0(invoke, root):
    result = invoke("check-compatibility", "--root", root)
    assert result.exit_code == 0
    assert result.output.startswith("cpu (ds-core ")
    assert "0 errors, 0 warnings, 0 notes" in result.output
    assert "bf16" in result.output


def test_what_stops_exits_with_1_and_stands_with_its_place(invoke, project, root):
    result = invoke("check-compatibility", "job", "--root", root)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert "2 errors" in lines[0]
    assert any(line.startswith("  job/train.py:3: cuda-call: ") for line in lines)
    assert lines[-1].startswith("Looked at 1 Python file and 0 native files.")


def test_notes_are_counted_and_shown_when_asked_for(invoke, project, root):
    quiet = invoke("check-compatibility", "job", "--target", "cuda", "--root", root)
    assert quiet.exit_code == 0
    assert "3 notes" in quiet.output
    assert "train.py:" not in quiet.output
    more = invoke("check-compatibility", "job", "--target", "cuda", "--root", root, "--verbose")
    assert "train.py:3" in more.output


def test_what_is_said_often_is_shown_a_few_times_and_counted(invoke, project, root):
    (project / "train.py").write_text("import torch\n" + "x.cuda()\n" * 9)
    arguments = ("check-compatibility", "job", "--root", root)
    lines = invoke(*arguments).output.splitlines()
    assert "9 errors" in lines[0]
    assert [line.split(":")[1] for line in lines if "train.py" in line] == ["2", "3", "4"]
    assert any("the same at 6 more places" in line for line in lines)
    every = invoke(*arguments, "--verbose").output
    assert every.count("job/train.py:") == 9
    assert "more place" not in every


def test_each_target_has_its_own_findings(invoke, site, project, root):
    add(site, "elsewhere", "return targets.ELSEWHERE", device="npu")
    arguments = ("--target", "elsewhere", "--target", "cpu", "--root", root)
    result = invoke("check-compatibility", "job", *arguments)
    assert "[elsewhere] The device here is 'npu'" in result.output
    assert "[cpu] The device here is 'cpu'" in result.output


def test_native_code_has_an_honest_figure_with_names(invoke, site, project, root):
    add(site, "hal", "return targets.TRANSLATED", device="cuda")
    (project / "kernel.cu").write_text(KERNEL)
    result = invoke("check-compatibility", "job", "--target", "hal", "--root", root)
    assert "2/3 mapped (66.7%), 1 the same" in result.output
    assert "unmapped: cudaNew" in result.output
    assert "job/kernel.cu:2: native-name: cudaNew" in result.output
    assert result.exit_code == 1


def test_json_is_one_document(invoke, project, root):
    result = invoke("check-compatibility", "job", "--json", "--root", root)
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["files"] == {"python": 1, "native": 0}
    assert {f["rule"] for f in report["findings"]} == {"cuda-call", "torch-cuda"}
    assert report["targets"][0]["name"] == "cpu"


def test_sarif_is_written_and_valid(invoke, project, root, tmp_path):
    invoke("check-compatibility", "job", "--sarif", "out.sarif", "--root", root)
    log = json.loads((tmp_path / "out.sarif").read_text())
    valid(log)
    locations = [r["locations"][0]["physicalLocation"] for r in log["runs"][0]["results"]]
    assert {place["artifactLocation"]["uri"] for place in locations} == {"job/train.py"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "no-such-target"], "There is no backend"),
        (["no-such-folder"], "does not exist"),
        (["--fix"], "--fix needs the PATH"),
        (["--yes"], "--yes goes with --fix"),
        (["--sarif", "no/such/folder.sarif"], "cannot be written"),
    ],
)
def test_wrong_usage_exits_with_2(invoke, project, arguments, says):
    result = invoke("check-compatibility", *arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_a_target_that_is_not_installed_names_its_distribution(invoke, site, monkeypatch):
    backends = {"cpu": "ds_core.builtin.cpu:Cpu"}
    install(site, "ds-core", {"ds.backends": backends}, requires="")
    monkeypatch.setattr("ds_core.registry.installed", lambda: Registry(path=[str(site)]))
    result = invoke("check-compatibility", "--target", "gaudi")
    assert result.exit_code == 2
    assert "pip install ds-gaudi" in result.output


def test_fix_shows_a_diff_and_without_a_terminal_changes_nothing(invoke, project, root):
    result = invoke("check-compatibility", "job", "--fix", "--root", root)
    assert "-torch.cuda.synchronize()" in result.output
    assert "+torch.accelerator.synchronize()" in result.output
    assert "none did" in result.output
    assert (project / "train.py").read_text() == TRAIN


@pytest.mark.parametrize(("answer", "rewritten"), [("y", True), ("n", False)])
def test_fix_asks_at_a_terminal(project, root, answer, rewritten):
    pty = pytest.importorskip("pty")
    terminal, ours = pty.openpty()
    try:
        os.write(terminal, f"{answer}\n".encode())
        command = [sys.executable, "-m", "ds_core", "check-compatibility", "job", "--fix"]
        done = subprocess.run(
            [*command, "--root", root], stdin=ours, capture_output=True, text=True
        )
    finally:
        os.close(terminal)
        os.close(ours)
    assert "Rewrite 1 file?" in done.stdout
    assert ((project / "train.py").read_text() != TRAIN) is rewritten


def test_fix_with_yes_rewrites_and_the_report_is_of_what_remains(invoke, project, root):
    (project / "train.py").chmod(0o755)
    result = invoke("check-compatibility", "job", "--fix", "--yes", "--root", root)
    assert "Rewrote 1 file." in result.output
    assert result.exit_code == 0
    assert ".cuda" not in (project / "train.py").read_text()
    assert (project / "train.py").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in project.iterdir()] == ["train.py"]
    again = invoke("check-compatibility", "job", "--fix", "--yes", "--root", root)
    assert "nothing to rewrite" in again.output


def test_fix_keeps_json_apart_from_the_diff(ds, project, root):
    result = ds("check-compatibility", str(project), "--fix", "--json", "--root", root)
    assert json.loads(result.stdout)["path"] == str(project)
    assert "+torch.accelerator.synchronize()" in result.stderr


def test_without_libcst_fix_says_what_to_install(invoke, project, monkeypatch):
    monkeypatch.setitem(sys.modules, "libcst", None)
    monkeypatch.delitem(sys.modules, "ds_core.compatibility.rewrite", raising=False)
    result = invoke("check-compatibility", "job", "--fix")
    assert result.exit_code == 1
    assert 'pip install "ds-core[fix]"' in result.output


def test_it_imports_neither_torch_nor_libcst(project, root):
    code = (
        "import sys; from click.testing import CliRunner; from ds_core.cli.main import ds; "
        f"CliRunner().invoke(ds, ['check-compatibility', 'job', '--target', 'all', "
        f"'--root', {root!r}]); sys.exit(bool({{'torch', 'libcst'}} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_of_ds_names_it(invoke):
    assert "check-compatibility" in invoke("--help").output
    assert "check-compatibility" in COMMANDS
