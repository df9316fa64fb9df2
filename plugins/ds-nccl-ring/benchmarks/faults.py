"""A host is lost in mid-training: killed, or cut off without a word; the others go on.

    python plugins/ds-nccl-ring/benchmarks/faults.py [--shape 4x2] [--rate 200mbit] [--steps 40]
        [--times 3] [--json]

A training with topology `hier-ring`, `elastic=True`, on an emulated cluster. In a step chosen at
random one host's processes get SIGKILL, or its cable is pulled. For each case: how many of the
ranks that are left finished all steps, whether their weights are equal, the steps lost, the longest
step of any rank, which is the loss noticed, the group formed anew and the step done again, and an
ordinary step. Hosts are network namespaces on this machine; needs root, ip and tc.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
import warnings

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # emulated hosts have no DNS names

import torch
import torch._dynamo  # imported here once, rather than in every rank
import torch.nn.parallel.distributed
from ds_nccl_ring.emulated_cluster import EmulatedCluster
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.errors import RefusedError


def train(steps, progress):
    """Seconds of each step, steps taken, a sum of all weights, and what was said of losses.

    None where this side is the one that must not go on.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.Linear(512, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    topology = {"name": "hier-ring", "elastic": True, "calibrate": False, "timeout": 60}
    session = ds.attach(model, optimizer, backend="cpu", topology=topology)
    generator = torch.Generator().manual_seed(int(os.environ["RANK"]))
    seconds = []
    for step in range(steps):
        progress.value = max(progress.value, step)
        start = time.perf_counter()
        x = torch.randn(32, 512, generator=generator)
        try:
            F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
        except RefusedError:
            return None
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    details = session.report().components[-1].details
    weights = sum(p.detach().double().sum().item() for p in model.parameters())
    taken = session.steps
    session.detach()
    return seconds, taken, weights, details.get("losses", [])


def lose(shape, rate, steps, how, seed):
    """One training in which one host is lost: how many ranks are left, and what each returned."""
    hosts, ranks = shape
    chance = random.Random(seed)
    progress = multiprocessing.get_context("fork").Value("i", 0)
    with EmulatedCluster(hosts, ranks, rate) as cluster:
        gone = cluster.hosts[chance.randrange(hosts)]
        when = chance.randrange(steps // 4, steps // 2)
        running = cluster.start(train, steps, progress)
        while progress.value < when:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))  # somewhere in the course of a step
        if how == "killed":
            running.kill_host(gone)
        else:
            cluster.cut(gone)
        results = running.results(180)
    return (hosts - 1) * ranks, [result for result in results if result is not None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="4x2", help="hosts x ranks on each")
    parser.add_argument("--rate", default="200mbit", help="of each uplink")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape = tuple(map(int, options.shape.split("x")))
    rows = []
    for how in ("killed", "cut off"):
        for seed in range(options.times):
            left, results = lose(shape, options.rate, options.steps, how, seed)
            losses = results[0][3] if results else []
            rows.append(
                {
                    "host": how,
                    "finished": len([r for r in results if r[1] == options.steps]),
                    "left": left,
                    "equal": len({weights for _, _, weights, _ in results}) == 1,
                    "lost steps": sum(options.steps - taken for _, taken, _, _ in results),
                    "longest": max(max(seconds) for seconds, *_ in results),
                    "formed anew": sum(loss["seconds"] for loss in losses),
                    "ordinary": statistics.median(results[0][0]),
                }
            )
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"emulated: {options.shape} at {options.rate}, {options.steps} steps")
    print("host      finished  equal  lost steps  longest step  formed anew  ordinary step")
    for row in rows:
        print(
            f"{row['host']:9} {row['finished']:3} of {row['left']}   {row['equal']!s:6}"
            f"{row['lost steps']:11}{row['longest']:12.2f} s{row['formed anew']:11.2f} s"
            f"{row['ordinary'] * 1e3:12.0f} ms"
        )


if __name__ == "__main__":
    main()
