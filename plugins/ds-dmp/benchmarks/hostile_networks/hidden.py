"""Hidden values that are large, or whose rounding grows."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .healthy import CLASSES, FEATURES, Joint, Trunk, clusters, jointly
from .job import Batch, Job, Network, job


class Residual(nn.Module):
    """Pre-normalised residual blocks on a stream that starts far from zero."""

    def __init__(self, width: int = 128, blocks: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, width)
        outliers = torch.randint(128, 240, (width,)) * 32.0
        with torch.no_grad():
            self.stem.weight.mul_(0.5)
            self.stem.bias.copy_(outliers)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(blocks + 1))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        stream = self.stem(x)
        for norm, block in zip(self.norms, self.blocks, strict=False):
            stream = stream + 0.1 * block(F.relu(norm(stream)))
        return self.head(self.norms[-1](stream))


def _points(count: int, drawn: Generator) -> Batch:
    x, kind = clusters(count, drawn, noise=0.5)
    return (x,), kind


def residual(seed: int) -> Job:
    """Biases of 4096 to 7648 in the first layer: updates are lost in a 16-bit stream."""
    return job(seed, Residual, _points, lr=1e-3)


class Gated(nn.Module):
    """A gated feed-forward layer with activations of about 200,000."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.up = nn.Linear(FEATURES, hidden)
        self.gate = nn.Linear(FEATURES, hidden)
        self.down = nn.Linear(hidden, FEATURES)
        self.norm = nn.LayerNorm(FEATURES)
        self.body = Trunk()
        self.head = nn.Linear(256, CLASSES)
        with torch.no_grad():
            self.up.weight.mul_(1000)
            self.gate.weight.mul_(1000)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes."""
        hidden = F.silu(self.gate(x)) * self.up(x)
        return self.head(self.body(self.norm(self.down(hidden))))


def gated(seed: int) -> Job:
    """Products beyond 65504 before a normalisation."""
    return job(seed, Gated, _points)


ITERATIONS, SITES = 14, 8


class Simulation(nn.Module):
    """A lattice of coupled chaotic maps, iterated: each step doubles an error."""

    def __init__(self) -> None:
        super().__init__()
        self.coupling = nn.Linear(SITES, SITES, bias=False).requires_grad_(False)
        self.coupling.weight.copy_(_coupling())
        self.read = nn.Linear(SITES, 64)

    def forward(self, state: Tensor) -> Tensor:
        """Features of the last state."""
        for _ in range(ITERATIONS):
            state = 1 - 2 * self.coupling(state).square()
        return F.relu(self.read(state))


def _coupling() -> Tensor:
    ring = torch.eye(SITES)
    return 0.96 * ring + 0.02 * (ring.roll(1, 0) + ring.roll(-1, 0))


def _states(count: int, drawn: Generator) -> tuple[Tensor, Tensor]:
    start = 2 * torch.rand(16 * count, SITES, generator=drawn) - 1
    state = start.double()
    for _ in range(ITERATIONS):
        state = 1 - 2 * (state @ _coupling().double().T).square()
    clear = (state[:, :2].abs() > 0.5).all(1).nonzero()[:count, 0]
    positive = (state[clear, :2] > 0).long()
    return start[clear], 2 * positive[:, 0] + positive[:, 1]


def simulation(seed: int) -> Job:
    """A simulator in the loop, fourteen steps of a chaotic map."""
    return job(seed, lambda: Joint(Simulation(), 64), jointly(_states))


NETWORKS = (
    Network("residual", "a residual stream with a large constant part", residual, ("stem",)),
    Network(
        "gated",
        "gated activations beyond 65504 before a normalisation: fp16 only",
        gated,
        ("up", "down"),
        rest="fp16",
    ),
    Network(
        "simulation",
        "an iterated map that doubles rounding errors",
        simulation,
        ("branch.coupling",),
    ),
)
