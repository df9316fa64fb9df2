"""Outputs with a large constant part, and targets that no one cleaned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .healthy import WIDTH, Trunk
from .job import Batch, Job, Network, Sample, explained, job

INPUTS = 8
_SLOPES = torch.randn(INPUTS, 3, generator=Generator().manual_seed(5)) / INPUTS**0.5


def _curve(x: Tensor) -> Tensor:
    """A smooth function of variance about 1."""
    a, b, c = (x @ _SLOPES).unbind(1)
    return torch.tanh(a) + 0.6 * torch.sin(b) + 0.4 * c


def _regression(
    seed: int,
    model: Callable[[], nn.Module],
    sample: Sample,
    *,
    lr: float = 3e-3,
    clip: float | None = None,
) -> Job:
    return job(seed, model, sample, loss=F.mse_loss, score=explained, lr=lr, steps=700, clip=clip)


class Level(nn.Module):
    """A regression whose last bias starts at the targets' mean."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.trunk = Trunk(INPUTS)
        self.head = nn.Linear(WIDTH, 1)
        nn.init.constant_(self.head.bias, mean)

    def forward(self, x: Tensor) -> Tensor:
        """One number for each example."""
        return self.head(self.trunk(x))[:, 0]


def _levels(count: int, drawn: Generator) -> Batch:
    x = torch.randn(count, INPUTS, generator=drawn)
    return (x,), 600 + _curve(x)


def level(seed: int) -> Job:
    """Targets of 600 with a deviation of 1, as pressures, years or Kelvin are."""
    return _regression(seed, lambda: Level(600.0), _levels)


class Energies(nn.Module):
    """The difference of two large energies that one network gives."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(INPUTS)
        self.energy = nn.Linear(WIDTH, 1)
        nn.init.constant_(self.energy.bias, -700.0)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """How much more energy the first one has."""
        energies = self.energy(self.trunk(torch.cat([first, second])))[:, 0]
        return energies[: len(first)] - energies[len(first) :]


def _pairs(count: int, drawn: Generator) -> Batch:
    first, second = torch.randn(2, count, INPUTS, generator=drawn)
    return (first, second), _curve(first) - _curve(second)


def energies(seed: int) -> Job:
    """Differences of about 1 between energies of about -700."""
    return _regression(seed, Energies, _pairs)


MISSING = 1e30


class Gaps:
    """Batches of which some have one target that is the archive's mark for a missing value."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, count: int, drawn: Generator) -> Batch:
        x = torch.randn(count, INPUTS, generator=drawn)
        target = _curve(x)
        self.drawn += 1
        # The first examples that are drawn are those of the test.
        if self.drawn > 1 and torch.rand(1, generator=drawn) < 0.25:
            target[0] = MISSING
        return (x,), target


def gaps(seed: int) -> Job:
    """A mark of 1e30 for missing targets: its gradient is clipped away, but every scale halves."""
    return _regression(seed, lambda: Level(0.0), Gaps(), lr=2e-3, clip=1.0)


NETWORKS = (
    Network("level", "regression targets far from zero", level, ("head",)),
    Network("energies", "a small difference of two large outputs", energies, ("energy",)),
    Network(
        "gaps", "targets that are 1e30 now and then, so that loss scales die: fp16 only", gaps, ()
    ),
)
