"""Two ranks with different batches remove the same channels and stay the same model."""

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
from test_channel import Rigid, batches, details, make
from torch.nn.functional import cross_entropy

me = int(os.environ["RANK"])
torch.set_num_threads(1)
os.chdir(os.path.join(sys.argv[2], str(me)))
model, optimizer = make()
if sys.argv[3] == "rigid":
    model = Rigid()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
session = ds.attach(
    model, optimizer, topology="flat", precision="none",
    pruner={"name": "channel", "flops": 0.5, "every": 2, "save": "plan"},
    config={"total_steps": 40},
)
for step in range(40):
    if sys.argv[3] == "rigid":
        torch.manual_seed(10 * step + me)
        model(torch.randn(4, 4 + me, 6)).square().mean().backward()
    else:
        x, y = next(batches(1, seed=10 * step + me))
        cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
found = {
    "ratio": details(session)["multiply-adds"]["ratio"],
    "layers": details(session)["layers"],
    "values": [p.double().sum().item() for p in model.parameters()],
}
with open(f"{sys.argv[2]}/{me}.json", "w") as file:
    json.dump(found, file)
session.detach()
os._exit(0)
"""


def ranks(folder, *arguments):
    for rank in (0, 1):
        (folder / str(rank)).mkdir()
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
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_they_remove_the_same(tmp_path):
    one, two = ranks(tmp_path, "net")
    assert one == two
    assert one["ratio"] <= 0.5
    assert (tmp_path / "0" / "plan").exists()
    assert not (tmp_path / "1" / "plan").exists(), "one writes for all"


def test_what_one_of_them_cannot_prove_stays_on_all(tmp_path):
    one, two = ranks(tmp_path, "rigid")
    assert one == two
    kept = {layer["layer"]: layer["kept"] for layer in one["layers"]}
    assert kept["a"] == 16
    assert kept["b"] < 16
