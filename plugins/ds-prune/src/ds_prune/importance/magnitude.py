"""How large an atom's weights are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ds_prune.importance.criterion import Criterion
from ds_prune.importance.slices import (
    in_units_of_mean,
    on_host,
    sum_over_others,
    weight_members,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Group, Structure


class Magnitude(Criterion):
    """The L2 norm over all weights that go with an atom, in those that make it and those that use
    it, in units of the group's mean.

    Weights of different layers differ in size for reasons that have nothing to do with importance,
    as their fan-in, so that only ratios within a group are compared (Fang et al., DepGraph, 2023,
    arXiv:2301.12900). Biases and normalisations do not count.
    """

    name = "magnitude"

    def scores(
        self, tensors: Mapping[str, Tensor], structure: Structure
    ) -> dict[str, NDArray[np.float64]]:
        squares: dict[tuple[str, int], Tensor] = {}

        def score(group: Group) -> Tensor | None:
            import torch

            members = weight_members(group, tensors, ("produce", "consume"))
            if not members:
                return None
            parts = []
            for member in members:
                key = (member.tensor, member.dim)
                if key not in squares:
                    wide = tensors[member.tensor].float()
                    squares[key] = sum_over_others(wide.square(), member.dim)
                index = torch.from_numpy(member.index).to(squares[key].device)
                parts.append(squares[key][index].sum(1))
            total = parts[0]
            for part in parts[1:]:
                total = total + part.to(total.device)
            return in_units_of_mean(total.sqrt())

        return on_host(structure, score)
