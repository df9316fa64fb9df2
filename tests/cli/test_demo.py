import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sklearn")


def test_the_main_job_in_one_epoch(ds):
    result = ds("demo", "--epochs", "1", "--precision", "fp32", "--pruner", "none", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["epochs"] == 1
    assert found["before"]["parameters"] == found["after"]["parameters"] > 0
    assert [part["kind"] for part in found["session"]["components"]] == ["precision", "backend"]
    assert result.stderr == ""


def test_the_table_for_people(invoke):
    result = invoke("demo", "--epochs", "1", "--precision", "fp32", "--pruner", "magnitude")
    assert result.exit_code == 0, result.output
    for part in ("before", "after", "ratio", "accuracy", "multiply-adds", "saved", "one step"):
        assert part in result.output
    assert "magnitude (ds-core " in result.output


def test_an_unknown_pass_stops_it_with_one_sentence(ds):
    result = ds("demo", "--epochs", "1", "--pruner", "magnitud")
    assert result.returncode == 1
    assert "Did you mean 'magnitude'?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_ctrl_c_is_a_clean_stop(tmp_path):
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ds")), "demo", "--epochs", "100000"],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started these tests in the background had the signal ignored, for children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        maps = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and "libtorch_python" not in maps.read_text():
            time.sleep(0.1)
        time.sleep(3)  # into the training; earlier is allowed and stops as cleanly
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.strip().splitlines()[-1] == "Stopped."
    assert "Traceback" not in err
