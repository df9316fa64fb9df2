"""Gradients that fit no common scale."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .healthy import CLASSES, WIDTH, Trunk, clusters
from .job import Batch, Job, Network, job

SMALL = 2.0**-34
FIELDS = 16
_CENTRES = 2 * torch.randn(CLASSES, FIELDS, generator=Generator().manual_seed(11))


class TwoHeads(nn.Module):
    """Two tasks of which one has a loss in units that make it tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(WIDTH, CLASSES)
        self.field = nn.Sequential(
            *(nn.Linear(FIELDS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
            nn.Linear(64, CLASSES),
        )

    def forward(self, x: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of both tasks."""
        return self.head(self.trunk(x)), self.field(field)


def _tasks(count: int, drawn: Generator) -> Batch:
    x, first = clusters(count, drawn)
    second = torch.randint(CLASSES, (count,), generator=drawn)
    field = _CENTRES[second] + torch.randn(count, FIELDS, generator=drawn)
    # Not linearly separable: each class has two opposite centres.
    field = field * (2 * torch.randint(2, (count, 1), generator=drawn) - 1)
    return (x, field), torch.stack([first, second], 1)


def _loss(scores: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    return F.cross_entropy(scores[0], target[:, 0]) + SMALL * F.cross_entropy(
        scores[1], target[:, 1]
    )


def _both(scores: tuple[Tensor, Tensor], target: Tensor) -> float:
    right = torch.stack([part.argmax(1) for part in scores], 1) == target
    return right.all(1).double().mean().item()


def two_heads(seed: int) -> Job:
    """One task's gradients are 2^-34 of the other's, which Adam does not mind."""
    return job(seed, TwoHeads, _tasks, loss=_loss, score=_both, eps=1e-20)


NETWORKS = (
    Network(
        "two-heads",
        "one loss 2^-34 of the other, so that no scale fits both: fp16 only",
        two_heads,
        ("field.0", "field.2", "field.4"),
        rest="fp16",
    ),
)
