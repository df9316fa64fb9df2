"""A small training that every rank of a job runs; run by `forked`."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

import ds_core as ds

BATCH = 4


def net():
    """Large enough that buckets travel in two levels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(32, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 4)
    )


def batches(ranks, steps):
    """For each step one batch a rank."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        x = torch.randn(ranks * BATCH, 32, generator=generator)
        y = torch.randint(4, (ranks * BATCH,), generator=generator)
        yield x.split(BATCH), y.split(BATCH)


def weights(model):
    """All of them in one tensor."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def reference(ranks, steps, gone=(), since=None):
    """What one process gets that averages the gradients of all, without `gone` from a step on."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step, (xs, ys) in enumerate(batches(ranks, steps)):
        left = [r for r in range(ranks) if since is None or step < since or r not in gone]
        for rank in left:
            (F.cross_entropy(model(xs[rank]), ys[rank]) / len(left)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return weights(model)


def train(topology, steps=3, at=None, clip=None, ready=None):
    """The usual loop in a session; `at(place, step, model)` may end the process.

    Returns:
        Weights, steps, details of the topology's report, and what was said to be lost.
    """
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    at = at or (lambda place, step, model: None)
    model = net()
    if ready is not None:
        ready(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    session = ds.attach(model, optimizer, backend="cpu", topology=topology)
    for step, (xs, ys) in enumerate(batches(ranks, steps)):
        at("before forward", step, model)
        loss = F.cross_entropy(model(xs[rank]), ys[rank])
        at("before backward", step, model)
        loss.backward()
        at("after backward", step, model)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    details = next(c for c in session.report().components if c.kind == "topology").details
    found = weights(model), session.steps, details
    session.detach()
    return found


def train_wrapped(wrap, backend, steps=3):
    """The usual loop on a model that `wrap` wraps, over a default group of `backend`.

    Returns:
        The mean losses, and what the default group sent between hosts.
    """
    dist.init_process_group(backend)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = wrap(net())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for xs, ys in batches(ranks, steps):
        loss = F.cross_entropy(model(xs[rank]), ys[rank])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        losses.append(mean.item() / ranks)
    return losses, getattr(dist.group.WORLD, "bytes_sent", {})
