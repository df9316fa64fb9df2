"""What one hand-written model is expected to be found to be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Idiom:
    """A small model in a manner of writing that occurs in practice.

    Attributes:
        name: Of the idiom.
        model: Makes it.
        inputs: Makes its example inputs.
        groups: Names of its groups and how many atoms each has.
        frozen: For parameters that stay whole in a dimension, a part of the reason.
        refused: A part of the message with which it is refused, if it is.
        normalised: Names of groups over which statistics are taken.
        heads: Names of groups of attention heads.
        literal: Names of groups that the code cannot do without, as it has their sizes in numbers.
        keywords: Makes example inputs by name.
    """

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    groups: Mapping[str, int] = field(default_factory=dict)
    frozen: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    normalised: frozenset[str] = frozenset()
    heads: frozenset[str] = frozenset()
    literal: frozenset[str] = frozenset()
    keywords: Callable[[], dict[str, Any]] = dict

    def seeded(self) -> nn.Module:
        """The model in evaluation mode, the same each time, with normalisations that do work."""
        torch.manual_seed(7)
        model = self.model()
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
                elif tensor.is_floating_point() and tensor.dim() == 1:
                    tensor.add_(0.1 * torch.randn(tensor.shape))
        return model.eval()


def fitting(group: Any, stays: Any) -> Any:
    """Which atoms stay, and more of them until an operation takes their number."""
    added = iter(np.flatnonzero(~stays))
    while stays.sum() % group.multiple:
        stays[next(added)] = True
    return stays


def numbers(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randn(*shape, generator=_generator()),)


def images(size: int = 8, channels: int = 3) -> Callable[[], tuple[Any, ...]]:
    return numbers(2, channels, size, size)


def tokens(width: int, length: int = 5) -> Callable[[], tuple[Any, ...]]:
    return numbers(2, length, width)


def words(length: int = 5) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randint(0, 11, (2, length), generator=_generator()),)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)
