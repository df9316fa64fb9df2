"""How a job of the hostile suite is trained: plain, under torch's autocast, or with `dmp`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hostile_networks import Job, Network
from torch.nn.utils import clip_grad_norm_

import ds_core as ds
from ds_core.testing import emulated_16bit

POLICIES = ("fp32", "fp16", "bf16", "dmp")
STATIC = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Outcome:
    """What became of one training."""

    network: str
    policy: str
    seed: int
    score: float
    seconds: float
    losses: list[float]
    share: float | None = None
    """Of forward multiply-adds, what `dmp` left in 16 bit."""
    flips: int | None = None
    report: dict[str, Any] = field(default_factory=dict)
    """The session's, of `dmp`."""

    @property
    def finite(self) -> bool:
        """Whether the last loss was a number."""
        return math.isfinite(self.losses[-1])


def train(network: Network, policy: str, seed: int, precision: dict[str, Any]) -> Outcome:
    """Train a network once; all policies see the same weights, data and number of steps.

    Args:
        network: Which one.
        policy: One of `POLICIES`.
        seed: Of weights and data.
        precision: The name and options that `dmp` is attached with.
    """
    job = network.make(seed)
    start = time.perf_counter()
    outcome = Outcome(network.name, policy, seed, score=0.0, seconds=0.0, losses=[])
    with emulated_16bit() as backend:
        if policy != "dmp":
            _static(job, STATIC.get(policy), outcome)
        else:
            session = ds.attach(
                job.model, job.optimizer, backend=backend, precision=precision, config={}
            )
            _loop(job, job.model, torch.amp.GradScaler("cpu", enabled=False), outcome)
            outcome.score = job.evaluate(job.model)
            report = session.report()
            outcome.report = report.model_dump(mode="json")
            said = next(part for part in report.components if part.kind == "precision").details
            outcome.share = said.get("16-bit share of multiply-adds")
            outcome.flips = said.get("flips")
            session.detach()
    outcome.seconds = time.perf_counter() - start
    return outcome


def _static(job: Job, dtype: torch.dtype | None, outcome: Outcome) -> None:
    """One dtype for the whole forward, by torch's own means."""

    def forward(*inputs: torch.Tensor) -> Any:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            output = job.model(*inputs)
        if isinstance(output, tuple):
            return tuple(part.float() for part in output)
        return output.float()

    _loop(job, forward, torch.amp.GradScaler("cpu", enabled=dtype == torch.float16), outcome)
    outcome.score = job.evaluate(forward)


def _loop(
    job: Job, forward: Callable[..., Any], scaler: torch.amp.GradScaler, outcome: Outcome
) -> None:
    rates = [group["lr"] for group in job.optimizer.param_groups]
    for step, (inputs, target) in enumerate(job.batches):
        for group, rate in zip(job.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * job.rate(step)
        loss = job.loss(forward(*inputs), target)
        scaler.scale(loss).backward()
        if job.clip is not None:
            scaler.unscale_(job.optimizer)
            clip_grad_norm_(job.model.parameters(), job.clip)
        scaler.step(job.optimizer)
        scaler.update()
        job.optimizer.zero_grad()
        outcome.losses.append(loss.item())
