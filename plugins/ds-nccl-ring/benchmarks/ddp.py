"""A step of torch's own wrappers over `ds_ring` in place of gloo, on an emulated cluster.

    python plugins/ds-nccl-ring/benchmarks/ddp.py [--shape 4x2] [--rate 200mbit] [--steps 4]
        [--rounds 2] [--wrappers ddp,fsdp2,hsdp] [--json]

The same script runs over each backend: only the name given to `init_process_group` differs, and
DS_RING_WIRE. The model has 25 MB of float32 parameters. Backends take turns, a job of each a round;
a step's time is that of the slowest rank, and medians over all rounds are compared with gloo's,
whose ranks are numbered host by host. Hosts are network namespaces on this machine; needs root, ip
and tc.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # emulated hosts have no DNS names

import torch
import torch._dynamo  # imported here once, rather than in every rank
import torch.distributed as dist
import torch.distributed.fsdp
import torch.nn.parallel.distributed
from ds_nccl_ring.emulated_cluster import EmulatedCluster
from ds_nccl_ring.mesh import device_mesh
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

WIDTH = 1440  # three layers of this width are 25 MB
BACKENDS = (
    ("gloo", "float32"),
    ("ds_ring", "float32"),
    ("ds_ring", "bfloat16"),
    ("ds_ring", "int8"),
)


def net():
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 8))


def ddp(model):
    return DistributedDataParallel(model)


def fsdp2(model):
    return fully_shard(model)


def hsdp(model):
    world = dist.group.WORLD
    if dist.get_backend() == "ds_ring":
        mesh = device_mesh(world.plan)
    else:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        shape = (world.size() // local, local)
        mesh = dist.init_device_mesh("cpu", shape, mesh_dim_names=("host", "local"))
    return fully_shard(model, mesh=mesh)


WRAPPERS = {"ddp": ddp, "fsdp2": fsdp2, "hsdp": hsdp}


def train(wrapper, backend, wire, steps):
    """One rank's seconds a step, and the mean loss of all ranks after the last one."""
    torch.set_num_threads(1)
    os.environ["DS_RING_WIRE"] = wire
    dist.init_process_group(backend)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = WRAPPERS[wrapper](net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(rank)
    seconds = []
    for step in range(steps + 2):  # the first makes connections and times algorithms, then buckets
        x = torch.randn(4, WIDTH, generator=generator)
        y = x[:, :8].argmax(1)
        dist.barrier()
        start = time.perf_counter()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step > 1:
            seconds.append(time.perf_counter() - start)
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    # A wrapper that outlives its process group can keep gloo from ever ending.
    del model, optimizer, loss
    gc.collect()
    dist.destroy_process_group()
    return seconds, mean.item() / ranks


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="4x2", help="hosts x ranks on each")
    parser.add_argument("--rate", default="200mbit", help="of each uplink")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--wrappers", default="ddp,fsdp2,hsdp")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    hosts, ranks = map(int, options.shape.split("x"))
    found = {}
    with EmulatedCluster(hosts, ranks, options.rate) as cluster:
        for wrapper in options.wrappers.split(","):
            for _ in range(options.rounds):
                for backend, wire in BACKENDS:
                    results = cluster.run(train, wrapper, backend, wire, options.steps, timeout=300)
                    slowest = [max(times) for times in zip(*(r[0] for r in results), strict=True)]
                    seconds, losses = found.setdefault((wrapper, backend, wire), ([], []))
                    seconds += slowest
                    losses.append(results[0][1])
        nbytes = sum(p.nbytes for p in net().parameters())
        bound = 2 * (hosts - 1) / hosts * nbytes / cluster.rate
    rows = []
    for (wrapper, backend, wire), (seconds, losses) in found.items():
        base, expected = found[wrapper, *BACKENDS[0]]
        middle = statistics.median(seconds)
        rows.append(
            {
                "wrapper": wrapper,
                "backend": backend,
                "wire": wire,
                "ms": middle * 1e3,
                "spread": (max(seconds) - min(seconds)) * 1e3,
                "speed-up": statistics.median(base) / middle,
                "loss": losses[0],
                "of gloo": losses[0] / expected[0],
            }
        )
    if options.json:
        print(json.dumps({"bound": bound, "bytes": nbytes, "rows": rows}, indent=2))
        return
    print(f"emulated: {options.shape} at {options.rate}, {nbytes / 1e6:.1f} MB of gradients")
    print(f"an exact all-reduce of them takes at least {bound * 1e3:.0f} ms on these wires")
    print(
        f"{'':8}{'':9}{'':10}{'ms a step':>10}{'spread':>8}{'speed-up':>10}{'loss':>9}{'/ gloo':>9}"
    )
    for row in rows:
        print(
            f"{row['wrapper']:8}{row['backend']:9}{row['wire']:10}{row['ms']:10.0f}"
            f"{row['spread']:8.0f}{row['speed-up']:9.2f}x{row['loss']:9.4f}"
            f"{row['of gloo']:9.6f}"
        )


if __name__ == "__main__":
    main()
