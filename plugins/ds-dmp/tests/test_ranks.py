"""Two ranks with different batches decide alike."""

import json
import os
import subprocess
import sys
from pathlib import Path

RANK = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
import ds_core as ds
from ds_core.testing import emulated_16bit, jobs
from ds_dmp import comparison, cost, trial
from training import QUICK, Offset, dtypes

me = int(os.environ["RANK"])
torch.set_num_threads(1)
torch.manual_seed(0)
model = Offset()
model.common = 1000.0 * me  # only rank 1 has what breaks 16 bit
optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
with emulated_16bit() as backend:
    precision = {**QUICK, "cost_gate": sys.argv[3] != "plain"}
    session = ds.attach(model, optimizer, backend=backend, precision=precision, topology="flat")
    steps = 12
    if sys.argv[3] == "compare":
        cost.gate = lambda costs: {}  # no single layer loses
        trial.Trial.seconds = lambda made: [1.0 + me, 0.5]  # whole steps do
        steps = comparison.BEGIN + 5 * trial.ROUNDS
    for step in range(steps):
        x, y = next(jobs.batches(1, seed=10 * step + me))
        if sys.argv[3] == "compare" and me and step % 2:
            x, y = x[1:], y[1:]
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    state = session.state_dict()["components"][0]["state"]["plan"]
    found = {
        "dtypes": dtypes(session),
        "decisions": state["decisions"],
        "gates": state["gates"],
        "settled": state["settled"],
        "weight": model.last.weight.sum().item(),
    }
    with open(f"{sys.argv[2]}/{me}.json", "w") as file:
        json.dump(found, file)
    session.detach()
os._exit(0)
"""


def ranks(folder, *arguments):
    script = folder / "rank.py"
    script.write_text(RANK)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(script), here, str(folder), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_what_one_rank_sees_all_decide_on(tmp_path):
    first, second = ranks(tmp_path, "plain")
    assert first == second
    assert first["dtypes"]["first"] == "fp32"
    assert first["dtypes"]["last"] == "bf16"


def test_costs_are_weighed_together(tmp_path):
    first, second = ranks(tmp_path, "gate")
    assert first == second
    assert first["gates"]


def test_a_trial_ends_alike_where_batches_differ(tmp_path):
    first, second = ranks(tmp_path, "compare")
    assert first == second
    assert first["settled"]
    assert set(first["dtypes"].values()) == {"fp32"}
