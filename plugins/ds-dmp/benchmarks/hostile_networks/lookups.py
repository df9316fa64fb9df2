"""Look-ups that compare large numbers: sharp attention, and distances by products."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .healthy import CLASSES, Joint, jointly
from .job import Job, Network, job

TOKENS = 16


class Pointer(nn.Module):
    """Attention as one writes it by hand, sharp enough to tell neighbouring angles apart."""

    def __init__(self, sharpness: float = 16000.0, width: int = 4) -> None:
        super().__init__()
        self.query, self.key = (nn.Linear(2, width, bias=False) for _ in range(2))
        self.value = nn.Linear(CLASSES, 16)
        basis = torch.linalg.qr(torch.randn(width, width))[0][:, :2] * math.sqrt(sharpness)
        with torch.no_grad():
            self.query.weight.copy_(basis)
            self.key.weight.copy_(basis)

    def forward(self, wanted: Tensor, angles: Tensor, values: Tensor) -> Tensor:
        """The value at the wanted angle."""
        scores = self.query(wanted)[:, None] @ self.key(angles).mT
        return (F.softmax(scores.float(), -1) @ self.value(values))[:, 0]


class Attention(nn.Module):
    """The same by `torch.nn.MultiheadAttention`, with a fused kernel."""

    def __init__(self, sharpness: float = 64000.0, width: int = 8) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        basis = torch.zeros(width, width)
        basis[:2, :2] = torch.eye(2) * math.sqrt(sharpness * math.sqrt(width))
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([basis, basis, torch.eye(width)]))

    def forward(self, wanted: Tensor, angles: Tensor, values: Tensor) -> Tensor:
        """The value at the wanted angle."""
        tokens = F.pad(torch.cat([angles, values], -1), (0, 2))
        query = F.pad(wanted[:, None], (0, 6))
        return self.attention(query, tokens, tokens, need_weights=False)[0][:, 0]


def _places(directions: int) -> Callable[[int, Generator], tuple[Tensor, ...]]:
    def sample(count: int, drawn: Generator) -> tuple[Tensor, ...]:
        start = torch.randint(directions, (count, 1), generator=drawn)
        angle = 2 * math.pi / directions * (start + torch.arange(TOKENS))
        angles = torch.stack([angle.cos(), angle.sin()], -1)
        kinds = torch.randint(CLASSES, (count, TOKENS), generator=drawn)
        chosen = torch.randint(TOKENS, (count,), generator=drawn)
        rows = torch.arange(count)
        return (
            angles[rows, chosen],
            angles,
            F.one_hot(kinds, CLASSES).float(),
            kinds[rows, chosen],
        )

    return sample


def pointer(seed: int) -> Job:
    """Scores of 16,000 that differ by 5."""
    return job(
        seed,
        lambda: Joint(Pointer(), 16),
        jointly(_places(256)),
        slow=("branch.query", "branch.key"),
    )


def attention(seed: int) -> Job:
    """Scores of 64,000 that differ by 5, inside a fused kernel."""
    return job(
        seed,
        lambda: Joint(Attention(), 8),
        jointly(_places(512)),
        slow=("branch.attention.in_proj",),
    )


class Prototypes(nn.Module):
    """How near each of the learnt points is: |a - b|^2 as |a|^2 + |b|^2 - 2ab."""

    def __init__(self) -> None:
        super().__init__()
        grid = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)) + 0.5
        self.points = nn.Parameter(grid + torch.tensor(CORNER))

    def forward(self, place: Tensor) -> Tensor:
        """Weights that sum to one."""
        squares = place.square().sum(1, keepdim=True) + self.points.square().sum(1)
        distance = (squares - 2 * (place @ self.points.mT).float()).clamp(min=0)
        return F.softmax(-2 * distance, -1)


CORNER = (96.0, 112.0)


class Map(nn.Module):
    """Features of a place."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = Prototypes()
        self.read = nn.Linear(64, 64)

    def forward(self, place: Tensor) -> Tensor:
        """Features of where it is."""
        return F.relu(self.read(self.prototypes(place)))


def _map(count: int, drawn: Generator) -> tuple[Tensor, Tensor]:
    cell = torch.randint(4, (count, 2), generator=drawn)
    inside = 0.3 + 1.4 * torch.rand(count, 2, generator=drawn)
    return torch.tensor(CORNER) + 2 * cell + inside, (cell[:, 0] + 2 * cell[:, 1]) % CLASSES


def prototypes(seed: int) -> Job:
    """Places on a map whose origin is far away."""
    return job(seed, lambda: Joint(Map(), 64), jointly(_map))


NETWORKS = (
    Network(
        "pointer",
        "hand-written attention with large scores",
        pointer,
        ("branch",),
    ),
    Network(
        "attention",
        "fused multi-head attention with large scores",
        attention,
        ("branch.attention",),
    ),
    Network(
        "prototypes",
        "squared distances as differences of products",
        prototypes,
        ("branch.prototypes",),
    ),
)
