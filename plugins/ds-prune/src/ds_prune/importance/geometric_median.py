"""How far an atom's weights are from those of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ds_prune.importance.criterion import Criterion
from ds_prune.importance.slices import in_units_of_mean, on_host, weight_members

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Group, Structure


class GeometricMedian(Criterion):
    """The sum of an atom's distances to all others of its group, in units of the group's mean.

    An atom near the geometric median is what the others can stand in for (He et al., Filter Pruning
    via Geometric Median, 2019, arXiv:1811.00250). Distances are L2, between the weights that make
    the atoms.
    """

    name = "fpgm"

    def scores(
        self, tensors: Mapping[str, Tensor], structure: Structure
    ) -> dict[str, NDArray[np.float64]]:
        def score(group: Group) -> Tensor | None:
            import torch

            rows = []
            for member in weight_members(group, tensors, ("produce",)):
                weight = tensors[member.tensor].float().movedim(member.dim, 0)
                index = torch.from_numpy(member.index).to(weight.device)
                rows.append(weight[index].flatten(1))
            if not rows:
                return None
            points = torch.cat([row.to(rows[0].device) for row in rows], 1)
            return in_units_of_mean(torch.cdist(points, points).sum(1))

        return on_host(structure, score)
