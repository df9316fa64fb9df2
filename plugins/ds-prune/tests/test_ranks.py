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
from test_channel import batches, details, make
from torch.nn.functional import cross_entropy

me = int(os.environ["RANK"])
torch.set_num_threads(1)
model, optimizer = make()
session = ds.attach(
    model, optimizer, topology="flat", precision="none",
    pruner={"name": "channel", "flops": 0.5, "every": 2}, config={"total_steps": 40},
)
for step in range(40):
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


def test_they_remove_the_same(tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(script), here, str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one == two
    assert one["ratio"] <= 0.5
