"""One training: what is trained, on what, and how its success is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

BATCH, STEPS, TEST = 128, 300, 2048

Batch = tuple[tuple[Tensor, ...], Tensor]
"""Arguments of the model, and the target."""

Sample = Callable[[int, Generator], Batch]
"""Draws that many examples from the task's distribution."""


@dataclass
class Job:
    """A model with its recipe, fresh from a seed."""

    model: nn.Module
    optimizer: Optimizer
    batches: Iterator[Batch]
    test: Batch
    loss: Callable[[Any, Tensor], Tensor]
    score: Callable[[Any, Tensor], float]
    """From 0 to 1: accuracy, or the share of variance that a regression explains."""
    steps: int
    clip: float | None = None
    """The norm that gradients are clipped to."""

    def evaluate(self, forward: Callable[..., Any]) -> float:
        """The score of `forward`, which calls the model, on examples that it did not train on."""
        inputs, target = self.test
        self.model.eval()
        with torch.no_grad():
            score = self.score(forward(*inputs), target)
        self.model.train()
        return score

    def rate(self, step: int) -> float:
        """What the learning rate is multiplied by: the last two fifths fall to zero."""
        return min(1.0, (self.steps - step) / (0.4 * self.steps))


@dataclass(frozen=True)
class Network:
    """A network that 16 bit fails on."""

    name: str
    cause: str
    make: Callable[[int], Job]
    """From a seed, which decides the initial weights and the data."""
    sensitive: tuple[str, ...]
    """Modules that suffice in float32 for the rest to train in 16 bit; for trying the suite."""
    rest: str = "bf16"
    """The dtype of the rest."""


def job(
    seed: int,
    model: Callable[[], nn.Module],
    sample: Sample,
    *,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    score: Callable[[Any, Tensor], float] | None = None,
    lr: float = 2e-3,
    slow: tuple[str, ...] = (),
    eps: float = 1e-8,
    steps: int = STEPS,
    clip: float | None = None,
) -> Job:
    """A training with Adam; parameters whose names begin with one of `slow` get lr / 100."""
    torch.manual_seed(seed)
    made = model()
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in made.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith(slow) if slow else False].append(parameter)
    optimizer = Adam(
        [
            {"params": parameters, "lr": lr / 100 if careful else lr}
            for careful, parameters in groups.items()
            if parameters
        ],
        betas=(0.9, 0.99),
        eps=eps,
        foreach=True,
    )
    drawn = Generator().manual_seed(1000 + seed)
    return Job(
        model=made,
        optimizer=optimizer,
        batches=(sample(BATCH, drawn) for _ in range(steps)),
        test=sample(TEST, Generator().manual_seed(9000 + seed)),
        loss=loss,
        score=score or accuracy,
        steps=steps,
        clip=clip,
    )


def accuracy(scores: Tensor, target: Tensor) -> float:
    """The share of examples whose highest score is that of their class."""
    known = torch.isfinite(scores).all(1)
    return (known & (scores.argmax(1) == target)).double().mean().item()


def explained(prediction: Tensor, target: Tensor) -> float:
    """The share of the target's variance that the prediction explains, at least 0."""
    rest = (prediction.double() - target).square().mean() / target.double().var()
    return max(0.0, 1 - rest.item()) if torch.isfinite(rest) else 0.0
