"""How the loss would change without an atom, to first order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from ds_core.components import Options
from ds_prune.importance.criterion import Criterion
from ds_prune.importance.slices import sum_over_others

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Kept, Structure


class Taylor(Criterion):
    """The derivative of the loss with respect to a gate on an atom, as the root of its mean square.

    A gate on what an atom gives to all layers that use it multiplies the weights by which they use
    it, so that the derivative is the sum of weight times gradient over all of them (Molchanov et
    al., Importance Estimation for Neural Network Pruning, 2019, arXiv:1906.10771). Scores of all
    groups are changes of one loss, for which the root is taken of the paper's squares: they compare
    as they are. Atoms that no trained weight uses are not judged.

    The average over steps is exponential, without bias towards its beginning. Steps with gradients
    that are not finite leave it as it is. One step costs a product and a sum over the weights that
    use atoms, and nothing is read back from the device.
    """

    name = "taylor"
    learns = True
    additive = True

    class Config(Options):
        """How long steps are remembered."""

        decay: float = pydantic.Field(default=0.95, ge=0, lt=1)
        """What an average keeps of itself in each step."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._averages: dict[str, Tensor] = {}  # [2, atoms]: of squares, and of ones
        self._layout: _Layout | None = None

    def observe(self, tensors: Mapping[str, Tensor], structure: Structure) -> None:
        import torch

        trained = frozenset(name for name, tensor in tensors.items() if tensor.grad is not None)
        if self._layout is None or not self._layout.fits(structure, trained):
            self._layout = _lay_out(structure, trained, tensors)
        layout = self._layout
        if not layout.spans:
            return
        with torch.no_grad():
            sums = layout.atom_sums(
                [_weight_times_gradient(tensors[tensor], dim) for tensor, dim in layout.sources]
            )
            self._take(sums.square())

    def _take(self, squares: Tensor) -> None:
        import torch

        assert self._layout is not None
        before = self._flat(squares)
        new = torch.stack([squares, torch.ones_like(squares)])
        after = before.lerp(new, 1 - self.config.decay)
        after = torch.where(squares.isfinite().all(), after, before)
        parts = torch.split(after, list(self._layout.spans.values()), 1)
        self._averages.update(zip(self._layout.spans, parts, strict=True))

    def _flat(self, like: Tensor) -> Tensor:
        """The averages of all atoms in the layout's order; zeros where there are none yet."""
        import torch

        assert self._layout is not None
        parts = []
        for name, count in self._layout.spans.items():
            known = self._averages.get(name)
            fits = known is not None and known.shape[1] == count
            parts.append(known.to(like.device) if fits else like.new_zeros(2, count))  # type: ignore[union-attr]
        return torch.cat(parts, 1)

    def scores(
        self, tensors: Mapping[str, Tensor], structure: Structure
    ) -> dict[str, NDArray[np.float64]]:
        found = {}
        for group in structure.groups:
            average = self._averages.get(group.name)
            if average is not None and average.shape[1] == group.count:
                squares, ones = average.double().cpu().numpy()
                if ones.all():
                    found[group.name] = np.sqrt(squares / ones)
        return found

    def narrow(self, kept: Kept) -> None:
        import torch

        for name, mask in kept.items():
            average = self._averages.get(name)
            if average is not None and average.shape[1] == len(mask):
                where = torch.from_numpy(np.flatnonzero(mask)).to(average.device)
                self._averages[name] = average[:, where]
        self._layout = None

    def state_dict(self) -> dict[str, Any]:
        return {"averages": {name: average.clone() for name, average in self._averages.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._averages = {name: average.clone() for name, average in state["averages"].items()}
        self._layout = None


@dataclass(frozen=True)
class _Layout:
    """Where the numbers of each atom are, when those of all weights are put one after another.

    Attributes:
        structure: Whose layout it is.
        trained: Names of the tensors that had gradients.
        sources: The weights' dimensions, in order.
        tables: `[atoms, n]` int64: positions to add up, for all groups with n of them.
        spans: For each group's name, its atoms; in the order of the tables' rows.
    """

    structure: Structure
    trained: frozenset[str]
    sources: tuple[tuple[str, int], ...]
    tables: tuple[Tensor, ...]
    spans: Mapping[str, int]

    def fits(self, structure: Structure, trained: frozenset[str]) -> bool:
        return self.structure is structure and self.trained == trained

    def atom_sums(self, numbers: list[Tensor]) -> Tensor:
        """`[atoms of all groups]`, from numbers for each index of each source."""
        import torch

        device = self.tables[0].device
        flat = torch.cat([vector.to(device) for vector in numbers])
        # Gathered and not scattered, as the order of a sum would be left to chance on some devices.
        return torch.cat([flat[table].sum(1) for table in self.tables])


def _lay_out(
    structure: Structure, trained: frozenset[str], tensors: Mapping[str, Tensor]
) -> _Layout:
    import torch

    starts: dict[tuple[str, int], int] = {}
    end = 0
    tables: dict[int, list[tuple[str, NDArray[np.int64]]]] = {}
    for group in structure.groups:
        parts = []
        for member in group.members:
            if member.role != "consume" or member.tensor not in trained:
                continue
            key = (member.tensor, member.dim)
            if key not in starts:
                starts[key] = end
                end += tensors[member.tensor].shape[member.dim]
            parts.append(starts[key] + member.index)
        if parts:
            table = np.concatenate(parts, 1)
            tables.setdefault(table.shape[1], []).append((group.name, table))
    device = tensors[next(iter(starts))[0]].device if starts else None
    return _Layout(
        structure,
        trained,
        tuple(starts),
        tuple(
            torch.from_numpy(np.concatenate([table for _, table in same])).to(device)
            for same in tables.values()
        ),
        {name: len(table) for same in tables.values() for name, table in same},
    )


def _weight_times_gradient(weight: Tensor, dim: int) -> Tensor:
    """For each index of `dim`, the derivative of the loss with respect to a factor on it."""
    gradient = weight.grad
    assert gradient is not None
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    return sum_over_others(gradient.float() * weight, dim)
