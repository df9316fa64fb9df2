"""What each rank does for the suite of topologies; started by torchrun with its orders as JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from ds_core.testing.conformance.subject import attach

STEPS = 4


def model() -> nn.Module:
    """The model of all ranks; without a batch norm, whose statistics would differ by batch."""
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of eight, of which each of two ranks takes every other sample."""
    generator = torch.Generator().manual_seed(7)
    return [
        (
            torch.randn(8, 8, generator=generator),
            torch.randint(4, (8,), generator=generator),
        )
        for _ in range(STEPS)
    ]


def flat(made: nn.Module) -> list[float]:
    """All weights as one list."""
    found: list[float] = torch.cat([p.detach().flatten() for p in made.parameters()]).tolist()
    return found


def alone() -> list[float]:
    """The weights that one process gets on whole batches."""
    torch.manual_seed(0)
    made = model()
    optimizer = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9)
    for x, y in batches():
        torch.autograd.backward(F.cross_entropy(made(x), y))
        optimizer.step()
        optimizer.zero_grad()
    return flat(made)


def rank(orders: dict[str, Any]) -> dict[str, Any]:
    """Train as one of two ranks; returns what there is to compare."""
    me = int(os.environ["RANK"])
    torch.manual_seed(me)  # other weights on each rank, until the session makes them equal
    made = model()
    made.register_buffer("seen", torch.full((1,), float(me)))
    if orders.get("own_group"):
        dist.init_process_group("gloo")
    optimizer = torch.optim.SGD(made.parameters(), 0.1, momentum=0.9)
    passes = {kind: orders[kind] for kind in ("backend", "precision", "topology")}
    for _ in range(orders.get("times", 1) - 1):
        attach(made, optimizer, **passes).detach()
    session = attach(made, optimizer, **passes)
    reduced = {}
    for op in ("sum", "max", "min"):
        reduced[op] = session.all_reduce(torch.tensor(me + 1.0, device=session.device), op).item()
    parts = orders.get("accumulate", 1)
    first_buffers: list[float] = []
    for step, (x, y) in enumerate(batches()):
        inputs, labels = session.to_device(x[me::2], y[me::2])
        for part in range(parts):
            last = part == parts - 1
            with nullcontext() if last or not orders.get("no_sync") else session.no_sync():
                loss = F.cross_entropy(made(inputs[part::parts]), labels[part::parts]) / parts
                if orders.get("overflow") and step == 1 and me == 1:
                    loss = loss * float("inf")
                torch.autograd.backward(loss)
        if me == 1:
            with torch.no_grad():
                made(inputs)  # a rank may evaluate alone
        first_buffers = first_buffers or made.get_buffer("seen").tolist()
        optimizer.step()
        optimizer.zero_grad()
    weights, report = flat(made), session.report()
    session.detach()
    group = dist.is_initialized()
    hooks = [not p._backward_hooks for p in made.parameters()]
    x, y = batches()[0]
    torch.autograd.backward(F.cross_entropy(made(x[me::2]), y[me::2]))
    found = {
        "weights": weights,
        "reduced": reduced,
        "skipped": report.skipped,
        "group": group,
        "clean": all(hooks) and type(made) is nn.Sequential,
        "own gradient": [p.grad.sum().item() for p in made.parameters() if p.grad is not None],
        "first buffers": first_buffers,
    }
    if group:
        dist.destroy_process_group()
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    result = rank(asked)
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(result))
    # gloo may drop a last tensor while the interpreter ends, and abort it: leave without ending.
    os._exit(0)
