"""Scores by chance, which other criteria must beat."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from ds_core.components import Options
from ds_prune.importance.criterion import Criterion

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Structure


class Chance(Criterion):
    """Uniform in [0, 1), the same for the same seed, name of a group and number of atoms."""

    name = "random"

    class Config(Options):
        """Which of all possible choices."""

        seed: int = pydantic.Field(default=0, ge=0)
        """Of the random numbers."""

    def scores(
        self, tensors: Mapping[str, Tensor], structure: Structure
    ) -> dict[str, NDArray[np.float64]]:
        return {
            group.name: np.random.default_rng(
                [self.config.seed, zlib.crc32(group.name.encode())]
            ).random(group.count)
            for group in structure.groups
        }
