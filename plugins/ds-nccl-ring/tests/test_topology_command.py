"""The command `ds topology`: what it prints, alone and under torchrun."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from ds_nccl_ring.bench.figures import Figures
from ds_nccl_ring.command import topology

from ds_core.errors import ConfigError, RefusedError
from ds_core.testing import requires_emulated_cluster


def run(*arguments):
    return CliRunner().invoke(topology, arguments, catch_exceptions=False).output


def torchrun(*arguments, ranks=2):
    command = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "-m", "ds_core"]
    done = subprocess.run(
        [sys.executable, *command, "topology", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_alone_show_tells_of_one_rank():
    assert "A single rank reduces nothing." in run("show")
    told = json.loads(run("show", "--json"))
    assert [host["ranks"] for host in told["placement"]["hosts"]] == [[0]]
    assert told["plan"]["wire"] == "float32"


@pytest.mark.processes
def test_under_torchrun_rank_0_tells_of_all(monkeypatch):
    told = torchrun("show", "--calibrate")
    assert told.count("proved by") == 1
    assert "shared memory" in told
    assert "Timed here." in told
    assert "hierarchical" in told


@pytest.mark.processes
def test_bench_runs_under_torchrun():
    told = torchrun(
        "bench", "--sizes", "4KiB", "--rounds", "1", "--variants", "flat,hierarchical", "--json"
    )
    figures = Figures.model_validate_json(told)
    assert figures.hosts == (2,)
    assert not figures.emulated
    assert [row.algorithm for row in figures.rows] == ["flat", "hierarchical"]
    assert all(row.error < 1e-6 for row in figures.rows)


@pytest.mark.cluster
@pytest.mark.processes
@requires_emulated_cluster
def test_bench_emulates_and_calibrates_a_simulation(tmp_path):
    options = ("--sizes", "64KiB,256KiB,1MiB", "--rounds", "2", "--budget", "0.3")
    told = run("bench", "--emulate", "2x2", "--rate", "400mbit", "--json", *options)
    figures = Figures.model_validate_json(told)
    assert figures.hosts == (2, 2)
    assert figures.emulated
    assert figures.rate == 50e6
    path = tmp_path / "bench.json"
    path.write_text(told)
    shown = run("simulate", "--nodes", "2", "--gpus-per-node", "2", "--calibration", str(path))
    assert "fitted to 15 times measured on an emulated cluster" in shown
    assert "leave one out" in shown


def test_simulate_says_that_it_is_simulated_and_what_is_best(tmp_path):
    picture = tmp_path / "outlook.svg"
    told = run("simulate", "--plot", str(picture))
    assert told.startswith("simulated all-reduce of 25 MiB on 128 nodes of 8")
    assert "not measured" in told
    assert "Fastest of the exact ones by this model: tree." in told
    assert "times as long as tree" in told
    assert "simulated" in picture.read_text()
    assert json.loads(run("simulate", "--json"))["what"] == "simulated"


def test_a_larger_rate_is_faster():
    def seconds(rate):
        told = run("simulate", "--size", "1GiB", "--rate", rate, "--json")
        return json.loads(told)["seconds"]["hierarchical"]

    assert seconds("400gbit") > 2 * seconds("3200gbit")


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("bench",), RefusedError, "single process"),
        (("bench", "--emulate", "4"), ConfigError, "no cluster"),
        (("bench", "--sizes", "much"), ConfigError, "no size"),
        (("bench", "--variants", "flatt"), ConfigError, "Did you mean 'flat'"),
        (("bench", "--plot", "x.pdf"), ConfigError, r"\.png or \.svg"),
        (("bench", "--rate", "fast"), ConfigError, "no bandwidth"),
        (("simulate", "--size", "much"), ConfigError, "no size"),
        (("simulate", "--calibration", "none.json"), ConfigError, "Cannot read"),
        (
            ("simulate", "--calibration", "x", "--protocol", "LL128"),
            ConfigError,
            "cannot be chosen",
        ),
    ],
)
def test_mistakes_are_named(arguments, kind, said):
    with pytest.raises(kind, match=said):
        run(*arguments)
