"""What a session costs a step, on a model so small that overhead shows.

Each row compares two loops over the same work in one process, interleaved; the ratio is of
medians. Run: python tests/benchmarks/attach.py [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median, quantiles

import torch
from torch import nn
from torch.nn import functional as F

import ds_core as ds


def job(width=64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 10))
    return model, torch.optim.SGD(model.parameters(), 0.01)


X, Y = torch.randn(32, 32), torch.randint(0, 10, (32,))


def step(model, optimizer):
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    optimizer.zero_grad()


def autocast_step(model, optimizer):
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(X), Y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def seconds(function, model, optimizer, steps=50):
    start = time.perf_counter()
    for _ in range(steps):
        function(model, optimizer)
    return (time.perf_counter() - start) / steps


def compare(name, plain, plain_step, attached, attached_step, rounds):
    for _ in range(3):
        seconds(plain_step, *plain), seconds(attached_step, *attached)
    pairs = []
    for i in range(rounds):
        # Alternate who goes first, so that neither always meets the warmer cache.
        order = [(plain_step, plain), (attached_step, attached)]
        times = [seconds(f, *job) for f, job in (order if i % 2 else order[::-1])]
        pairs.append(times if i % 2 else times[::-1])
    ratios = sorted(after / before for before, after in pairs)
    low, *_, high = quantiles(ratios, n=10)
    return {
        "case": name,
        "baseline_us": 1e6 * median(before for before, _ in pairs),
        "ratio": median(ratios),
        "p10": low,
        "p90": high,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    same = job(), job()
    rows.append(compare("no session against itself", same[0], step, same[1], step, options.rounds))
    for name, baseline, passes in (
        ("no passes against the bare loop", step, {}),
        ("fp32 against the bare loop", step, {"precision": "fp32"}),
        ("bf16 against autocast by hand", autocast_step, {"precision": "bf16"}),
        ("finite against the bare loop", step, {"observers": ["finite"]}),
    ):
        plain, attached = job(), job()
        session = ds.attach(*attached, **passes)
        rows.append(compare(name, plain, baseline, attached, step, options.rounds))
        session.detach()
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'case':<34} {'baseline':>10} {'ratio':>7} {'p10-p90':>14}")
    for row in rows:
        print(
            f"{row['case']:<34} {row['baseline_us']:>7.1f} us {row['ratio']:>6.3f}x "
            f"{row['p10']:>6.3f}-{row['p90']:.3f}"
        )


if __name__ == "__main__":
    main()
