"""The report that owners of hardware send back."""

import json
import subprocess
import sys

SIMULATED = """
from click.testing import CliRunner

from ds_core.testing import simulated_device
from ds_core.testing.hardware_report import _simulated
from ds_core.builtin.cpu import Cpu

simulated_device("npu")


class Npu(Cpu):
    device_type = "npu"


print(_simulated(Npu()), _simulated(Cpu()))
"""


def test_a_report_of_the_cpu(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "ds_core.testing.hardware_report", "cpu", "--out", str(out)]
    command += ["--only", "metadata", "--seconds", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["probe"]["present"]
    assert not report["simulated"]
    assert {check["outcome"] for check in report["conformance"]["checks"]} == {"passed"}
    assert {line["model"] for line in report["trainings"]} == {"Convolution", "Transformer"}
    assert all(line["milliseconds"] > 0 for line in report["trainings"])


def test_an_unknown_backend_is_a_sentence():
    command = [sys.executable, "-m", "ds_core.testing.hardware_report", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_simulated_device_is_told_from_hardware():
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]
