"""Factors between 0 and 1 on what each atom gives to the layers that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_prune.structure import Kept, Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

GONE = 0.01
"""A factor below this is 0."""


class Gates:
    """Gates on the atoms of a model, in the weights themselves.

    A gate multiplies the weights that sum over its atom. Between two steps the model holds the
    products, so that whoever calls it, copies it or compiles it gets the gated model; while the
    optimizer steps, it holds the dense weights, so that gradients taken at the gated model change
    all of them, and an atom whose gate was closed returns with weights that were trained in the
    meantime (Lin et al., Dynamic Model Pruning with Feedback, ICLR 2020, arXiv:2006.07253; gates
    that close bit by bit after He et al., Asymptotic Soft Filter Pruning, 2018, arXiv:1808.07471).

    Args:
        tensors: The model's parameters by name.
        structure: Of the model.
    """

    def __init__(self, tensors: Mapping[str, Tensor], structure: Structure) -> None:
        self._tensors = tensors
        self._structure = structure
        self.values: dict[str, NDArray[np.float64]] = {
            group.name: np.ones(group.count) for group in structure.groups
        }
        self._dense: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor] = {}

    def move(self, kept: Kept, decay: float) -> None:
        """Close the gates of atoms that are to go by a factor, and open all others at once."""
        for name, values in self.values.items():
            stays = kept.get(name, np.ones(len(values), np.bool_))
            closing = np.where(values * decay < GONE, 0.0, values * decay)
            self.values[name] = np.where(stays, 1.0, closing)
        self._make_factors()

    def close(self) -> None:
        """Put the factors on the weights; what they were is kept beside."""
        import torch

        weights = [self._tensors[name] for name in self._factors]
        if self._dense.keys() != self._factors.keys():
            self._dense = {
                name: torch.empty_like(weight, requires_grad=False)
                for name, weight in zip(self._factors, weights, strict=True)
            }
        if not weights:
            return
        with torch.no_grad():
            torch._foreach_copy_(list(self._dense.values()), weights)
            torch._foreach_mul_(weights, list(self._factors.values()))

    def open(self) -> None:
        """Give the weights the values that they have without gates."""
        import torch

        if self._dense:
            weights = [self._tensors[name] for name in self._dense]
            with torch.no_grad():
                torch._foreach_copy_(weights, list(self._dense.values()))

    def state_dict(self) -> dict[str, Any]:
        """Gates and dense weights; only right while the gates are on the weights."""
        return {
            "values": {name: values.tolist() for name, values in self.values.items()},
            "dense": dict(self._dense),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned, for a model that holds gated weights."""
        import torch

        self.values = {name: np.array(values) for name, values in state["values"].items()}
        self._make_factors()
        self._dense = {
            name: torch.empty_like(self._tensors[name], requires_grad=False).copy_(dense)
            for name, dense in state["dense"].items()
        }

    def _make_factors(self) -> None:
        import torch

        factors: dict[str, Tensor] = {}
        for group in self._structure.groups:
            values = self.values[group.name]
            if (values == 1).all():
                continue
            for member in group.members:
                if member.role != "consume":
                    continue
                weight = self._tensors[member.tensor]
                shape = [1] * weight.dim()
                shape[member.dim] = weight.shape[member.dim]
                factor = np.ones(weight.shape[member.dim])
                factor[member.index] = values[:, None]
                made = torch.from_numpy(factor).to(weight.device, weight.dtype).reshape(shape)
                factors[member.tensor] = factors.get(member.tensor, 1) * made
        self._factors = factors
