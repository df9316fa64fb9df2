"""Data parallelism in place, over real processes started by torchrun."""

import json

import pytest
import torch

import ds_core as ds
from ds_core.testing import jobs
from tests.torchrun import ranks

pytestmark = pytest.mark.processes

SCRIPT = """
import json, os, sys
import torch
import torch.distributed as dist
from torch.nn import functional as F
import ds_core as ds

options = json.loads(sys.argv[1])
rank = int(os.environ["RANK"])
torch.manual_seed(rank)  # other weights on each rank, until the session makes them equal
if options.get("own_group"):
    dist.init_process_group("gloo")
model = torch.nn.Sequential(
    torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
session = ds.attach(model, optimizer, topology="flat", **options["passes"])
call = torch.compile(model) if options.get("compile") else model
generator = torch.Generator().manual_seed(7)
for step in range(4):
    x, y = torch.randn(8, 8, generator=generator), torch.randint(4, (8,), generator=generator)
    x, y = (x[rank::2], y[rank::2]) if not options.get("overflow") else (x, y)
    loss = F.cross_entropy(call(x), y)
    if options.get("overflow") and step == 1 and rank == 1:
        loss = loss * float("inf")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
everyone = [torch.empty_like(weights) for _ in range(2)]
dist.all_gather(everyone, weights)
report = session.report()
session.detach()
still = dist.is_initialized()
hooks = [p._backward_hooks is None for p in model.parameters()]
F.cross_entropy(model(x), y).backward()
print(json.dumps({
    "equal": torch.equal(*everyone), "weights": weights.tolist(), "group": still,
    "clean": all(hooks) and type(model) is torch.nn.Sequential, "skipped": report.skipped,
    "gradient": model[0].weight.grad.sum().item(), "rank": rank,
    "ranks": report.components[-1].details["ranks"],
}), flush=True)
if still:
    dist.destroy_process_group()
"""


def two_ranks(tmp_path, **options):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    options.setdefault("passes", {})
    found = [json.loads(said) for said in ranks(tmp_path, script, json.dumps(options))]
    return found


@pytest.mark.parametrize("passes", [{}, {"precision": "bf16"}, {"precision": "auto"}])
def test_ranks_stay_equal_and_detach_undoes_it(tmp_path, passes):
    found = two_ranks(tmp_path, passes=passes)
    for one in found:
        assert one["equal"]
        assert one["clean"]
        assert one["ranks"] == 2
        assert not one["group"]
    # After detach each rank is alone again, with gradients of its own batch.
    assert found[0]["gradient"] != found[1]["gradient"]


def test_a_process_group_of_the_script_stays(tmp_path):
    assert all(one["group"] for one in two_ranks(tmp_path, own_group=True))


def test_under_torch_compile(tmp_path):
    found = two_ranks(tmp_path, compile=True, passes={"precision": "bf16"})
    assert all(one["equal"] and one["clean"] for one in found)


def test_an_overflow_on_one_rank_is_skipped_on_all(tmp_path):
    found = two_ranks(tmp_path, overflow=True, passes={"precision": "fp16"})
    for one in found:
        assert one["skipped"] == {"overflow": 1}
        assert one["equal"]


def test_two_ranks_are_one_larger_batch(tmp_path):
    found = two_ranks(tmp_path, passes={"precision": "fp32"})
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 4)
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    generator = torch.Generator().manual_seed(7)
    for _ in range(4):
        x = torch.randn(8, 8, generator=generator)
        y = torch.randint(4, (8,), generator=generator)
        loss = 0
        for rank in range(2):
            loss = loss + torch.nn.functional.cross_entropy(model(x[rank::2]), y[rank::2]) / 2
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(torch.tensor(found[0]["weights"]), weights)


def test_one_process_has_nothing_to_reduce():
    model = jobs.Mlp()
    with ds.attach(model, jobs.sgd(model), topology="flat") as session:
        assert session.report().components[-1].details["ranks"] == 1
        assert not torch.distributed.is_initialized()
