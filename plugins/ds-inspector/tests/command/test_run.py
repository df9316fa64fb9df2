import subprocess
import sys

import ds_inspector
import numpy as np
import pytest
from click.testing import CliRunner
from ds_inspector.analysis import roofline
from ds_inspector.command import inspect

TRAINING = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss_of = nn.CrossEntropyLoss()
data = TensorDataset(torch.randn(64, 8), torch.randint(0, 4, (64,)))
for number, (x, y) in enumerate(DataLoader(data, batch_size=4)):
    optimizer.zero_grad()
    loss = loss_of(model(x), y)
    loss.backward()
    optimizer.step()
    if number == 6 and "--raise" in sys.argv:
        raise ValueError("a bad batch")
    if number == 6 and "--exit" in sys.argv:
        sys.exit(3)
    if number == 6 and "--interrupt" in sys.argv:
        raise KeyboardInterrupt
print("finished", number + 1, __name__, sys.argv[1:])
"""

INFERENCE = """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval()
for _ in range(12):
    model(torch.randn(4, 8))
"""


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    monkeypatch.setattr(roofline, "measure_peaks", lambda device: {})


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        path = tmp_path / "train.py"
        path.write_text(text)
        return path

    return write


def run(*arguments):
    return CliRunner().invoke(inspect, [str(argument) for argument in arguments])


def test_a_training_is_recorded_as_it_is(script):
    path = script(TRAINING)
    done = run("--steps", 2, path, "--lr", "3")
    assert done.exit_code == 0, done.output
    assert "finished 16 __main__ ['--lr', '3']" in done.output
    assert "ds inspect view train.dsrec" in done.output
    recording = ds_inspector.load("train.dsrec")
    assert recording.steps.rows == 2
    assert not recording.about.problems
    assert "--lr 3" in recording.about.command
    events = recording.events
    assert {"forward", "backward", "optimizer", "data"} <= set(events["phase"])
    (row, *_) = np.flatnonzero(events.texts("name").equal("aten::relu"))
    assert events["module"][row] == "1"
    assert events["source"][row] == "train.py:14"
    assert len(set(events["node"][events["node"] >= 0])) == recording.nodes.rows == 3
    (row, *_) = np.flatnonzero(events.texts("name").equal("Optimizer.step#SGD.step"))
    assert events["source"][row] == "train.py:16"


def test_inference_is_recorded_by_forwards(script):
    done = run("--steps", 2, "-o", "found.dsrec", script(INFERENCE))
    assert done.exit_code == 0, done.output
    recording = ds_inspector.load("found.dsrec")
    assert recording.steps.rows == 2
    names = recording.events.texts("name")
    assert names.equal("aten::addmm").sum() == 2
    # Gradients were on, so that what the forward kept is called so.
    assert "activation" in set(recording.tensors["kind"])


@pytest.mark.parametrize(
    ("flag", "status", "words"),
    [("--raise", 1, "ValueError: a bad batch"), ("--exit", 3, ""), ("--interrupt", 130, "Stopped")],
)
def test_however_a_script_ends_what_was_recorded_is_kept(script, flag, status, words):
    path = script(TRAINING)
    done = run("--warmup", 1, "--steps", 4, path, flag)
    assert done.exit_code == status
    assert words in done.output
    assert "ds_inspector" not in done.output  # the traceback is the script's own
    assert ds_inspector.load("train.dsrec").steps.rows == 2


def test_stopping_ends_the_script(script):
    done = run("--stop", "--steps", 1, script(TRAINING))
    assert done.exit_code == 0, done.output
    assert "finished" not in done.output
    assert ds_inspector.load("train.dsrec").steps.rows == 1


def test_a_script_without_a_model_says_so(script, tmp_path):
    done = run(script("print('hello')"))
    assert done.exit_code == 0
    assert "called no torch.nn.Module" in done.output
    assert not (tmp_path / "train.dsrec").exists()


def test_a_script_that_is_too_short_says_so(script):
    done = run("--warmup", 50, script(INFERENCE))
    assert done.exit_code == 0
    assert "--warmup" in done.output


def test_only_one_collector(script):
    done = run("--collect", "time", "--steps", 1, script(TRAINING))
    assert done.exit_code == 0, done.output
    recording = ds_inspector.load("train.dsrec")
    assert recording.events.rows
    assert not recording.tensors.rows
    assert not recording.nodes.rows


def test_the_largest_module_is_the_model(script):
    text = TRAINING.replace("model(x)", "model(small(x))").replace(
        "loss_of =", "small = nn.LayerNorm(8)\nloss_of ="
    )
    done = run("--steps", 1, script(text))
    assert done.exit_code == 0, done.output
    assert ds_inspector.load("train.dsrec").about.title == "Sequential"


def test_a_missing_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("shwo")
    assert done.exit_code != 0
    assert "There is no file 'shwo'" in str(done.exception)
    assert "'show'" in str(done.exception)


def test_a_recording_is_not_overwritten_by_itself(training_file):
    done = run(training_file, "-o", training_file)
    assert done.exit_code == 2


@pytest.fixture
def training_file(tmp_path):
    from ds_inspector.recording import Recording
    from ds_inspector.recording.recording import About

    return Recording(About(title="x", origin="torch")).save(tmp_path / "run.dsrec")


def test_a_model_file_is_opened(training_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("-o", "other.dsrec", training_file)
    assert done.exit_code == 0, done.output
    assert ds_inspector.load("other.dsrec").about.title == "x"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_does_not_import_torch(arguments):
    code = (
        "import sys; from ds_inspector.command import inspect; "
        f"inspect({arguments!r}, standalone_mode=False); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")


def test_importing_the_package_does_not_import_torch():
    code = "import sys, ds_inspector, ds_inspector.observer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert callable(ds_inspector.inspect)
    with pytest.raises(AttributeError):
        _ = ds_inspector.nothing
