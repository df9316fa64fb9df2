"""What is noted of operations while a graph is walked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Node

    from ds_prune.analysis.labels import Labels


@dataclass(frozen=True)
class Reader:
    """A weight of an operation that sums over channels: `operand` has them along `dim`."""

    node: Node
    operand: Node
    dim: int
    labels: Labels


@dataclass(frozen=True)
class Statistic:
    """An operation that computes statistics over labelled dimensions of its first argument."""

    node: Node
    over: Mapping[int, Labels]


@dataclass(frozen=True)
class Product:
    """The multiply-adds of one operation: of sizes and of labelled dimensions."""

    layer: str
    operation: str
    repeats: int
    over: tuple[Labels, ...]
