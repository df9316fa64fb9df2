"""The part of each network that is fine in 16 bit, and most of its multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from .job import Sample

FEATURES, WIDTH, CLASSES = 64, 256, 4

_CENTRES = torch.randn(2 * CLASSES, FEATURES, generator=Generator().manual_seed(7))


class Trunk(nn.Sequential):
    """Normalised layers of ordinary width."""

    def __init__(self, features: int = FEATURES, width: int = WIDTH, depth: int = 3) -> None:
        sizes = [features] + [width] * depth
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        super().__init__(*layers)


class Joint(nn.Module):
    """A trunk and a branch, whose features are read together: both are needed for the answer."""

    def __init__(self, branch: nn.Module, features: int) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.branch = branch
        self.head = nn.Linear(WIDTH + features, CLASSES * CLASSES)

    def forward(self, x: Tensor, *inputs: Tensor) -> Tensor:
        """Scores of the pairs of a class for the trunk and one for the branch."""
        return self.head(torch.cat([self.trunk(x), self.branch(*inputs)], 1))


def clusters(count: int, drawn: Generator, noise: float = 0.8) -> tuple[Tensor, Tensor]:
    """Points around centres, two centres for each class."""
    cluster = torch.randint(len(_CENTRES), (count,), generator=drawn)
    spread = torch.randn(count, FEATURES, generator=drawn)
    return _CENTRES[cluster] + noise * spread, cluster % CLASSES


def jointly(hostile: Callable[[int, Generator], tuple[Tensor, ...]]) -> Sample:
    """Examples for `Joint`: `hostile` draws the branch's inputs and, last, their classes."""

    def sample(count: int, drawn: Generator) -> tuple[tuple[Tensor, ...], Tensor]:
        x, first = clusters(count, drawn)
        *inputs, second = hostile(count, drawn)
        return (x, *inputs), CLASSES * first + second

    return sample
