"""Layers that make up for channels they no longer get, by least squares.

After the channel pruning of He et al., 2017 (arXiv:1707.06168) and ThiNet (Luo et al., 2017,
arXiv:1707.06342): every layer that uses atoms gets the weights with which its outputs on the
smaller model's inputs are nearest to those of the whole model, layer by layer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_core.errors import RefusedError
from ds_prune.recovery.batches import Forward, evaluating, forward
from ds_prune.recovery.least_squares import Moments, fit
from ds_prune.recovery.uses import Use, watched
from ds_prune.structure import Kept, Structure

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

PATCH_FEATURES = 2304
"""Convolutions with more weights for each output are fitted by pixels: 9 for each of 256 channels.
"""

_ROWS_EACH = 4
"""Rows for each feature that a fit by patches needs."""


@dataclass
class Reconstruction:
    """What was done to a model, which can be undone.

    Attributes:
        fitted: Names of the weights that were adapted, in the order of their use.
        left: Names of weights that only lost their channels, each with the reason as a clause.
    """

    fitted: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    _before: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)

    def undo(self) -> None:
        """Bring the weights back, bit for bit; only as long as nothing was removed."""
        import torch

        with torch.no_grad():
            for tensor, value in self._before:
                tensor.copy_(value)
        self._before.clear()


def reconstruct(
    model: Module,
    structure: Structure,
    kept: Kept,
    batches: Collection[Any],
    *,
    rounds: int = 8,
    ridge: float = 1e-3,
    call: Forward = forward,
) -> Reconstruction:
    """Adapt all layers that use atoms to what will be left, before anything is removed.

    Weights by which removed atoms are used become zero, so that the model already computes what it
    will without them, except where statistics are taken over the atoms; removing them afterwards
    changes nothing more. The weights of the others, and biases where there are some, are fitted.
    Linear layers, the output of `MultiheadAttention`, matrix products and convolutions are, in any
    module or none.

    A convolution is fitted with a feature for each channel and pixel of its kernel, which is exact
    at the borders too, if that makes at most `PATCH_FEATURES` and the batches have four times as
    many pixels. Otherwise, and where it is transposed or of three dimensions, a removed channel is
    predicted from the others at the same pixel; with padding, what goes into the bias is then off
    at the borders. Convolutions in groups are left alone.

    Args:
        model: Runs in evaluation mode, without gradients; its flags are put back.
        structure: Of the model.
        kept: What will be left.
        batches: Of inputs, gone through twice in each round, in the same order each time. A few
            hundred samples do.
        rounds: Layers are fitted in as many portions, in the order of their use; the later ones see
            what the earlier ones give out then. With 1 all layers see the whole model's inputs,
            which is less exact.
        ridge: How much weights are held to what they are, in parts of their inputs' mean square.
        call: Calls the model with a batch.

    Raises:
        RefusedError: There are no batches.
        Exception: Whatever the model raises; it is left as it was.
    """
    if not len(batches):
        raise RefusedError(
            "Reconstruction has no batches to look at.", mend="Give it a few hundred samples."
        )
    work = _Work(model, structure, kept, batches, ridge, call)
    try:
        with evaluating(model):
            for names in np.array_split(np.array(work.order()), max(rounds, 1)):
                work.fit([str(name) for name in names])
            work.switch(whole=False)
    except BaseException:
        work.done.undo()
        raise
    return work.done


class _Work:
    """The model in two states, whole and with removed atoms unused, and what is learnt of them."""

    def __init__(
        self,
        model: Module,
        structure: Structure,
        kept: Kept,
        batches: Collection[Any],
        ridge: float,
        call: Forward,
    ) -> None:
        self.model, self.batches, self.ridge, self.call = model, batches, ridge, call
        self.gone = _gone(structure, kept)
        self.tensors: dict[str, Tensor] = dict(model.named_parameters())
        self.weights = {name: self.tensors[name] for name in self.gone}
        self.done = Reconstruction()
        self._makers = {
            member.tensor
            for group in structure.groups
            for member in group.members
            if member.role != "consume" and member.dim in self.gone.get(member.tensor, {})
        }
        self._names = {id(tensor): name for name, tensor in self.tensors.items()}
        self._whole = {name: weight.detach().clone() for name, weight in self.weights.items()}
        # A layer is whole until its turn: others must not make up for what it will mend itself.
        self._small = {name: weight.clone() for name, weight in self._whole.items()}
        self.done._before = [(self.weights[name], value) for name, value in self._whole.items()]

    def order(self) -> list[str]:
        """Weights that can be fitted, in the order of their first use."""
        found: dict[str, None] = {}

        def note(name: str, use: Use) -> None:
            if use.reason:
                self.done.left[name] = use.reason
            elif set(self.gone[name]) != {use.dim} or self.weights[name].dim() < 2:
                self.done.left[name] = "what it is multiplied with is not what was removed"
            elif name in self._makers:
                self.done.left[name] = "it makes the channels that it uses, too"
            else:
                found[name] = None

        self._run(next(iter(self.batches)), self.weights, note)
        for name in self.gone:
            if name not in found:
                self.done.left.setdefault(name, "no product with it is seen")
        for name in self.done.left:
            self._leave(name)
        return [name for name in found if name not in self.done.left]

    def fit(self, names: list[str]) -> None:
        """Fit these weights to what their inputs are by now."""
        if not names:
            return
        weights = {name: self.weights[name] for name in names}
        fits: dict[str, _Fit] = {}
        for batch in self.batches:
            uses = []
            for whole in (True, False):
                self.switch(whole)
                seen: list[tuple[str, Use]] = []
                self._run(batch, weights, lambda name, use, seen=seen: seen.append((name, use)))
                uses.append(seen)
            for (name, x), (_, z) in zip(*uses, strict=True):
                if name not in fits:
                    gone = self.gone[name][x.dim]
                    fits[name] = _Fit(x, self._whole[name], gone, len(self.batches))
                fits[name].add(x, z)
        for name, one in fits.items():
            self._apply(name, one)

    def switch(self, whole: bool) -> None:
        """Make the model whole, or as small as it is by now."""
        for name, value in (self._whole if whole else self._small).items():
            self.tensors[name].copy_(value)

    def _run(self, batch: Any, weights: Mapping[str, Tensor], note: Any) -> None:
        with watched(weights, note):
            self.call(self.model, batch)

    def _apply(self, name: str, one: _Fit) -> None:
        bias = self._names.get(id(one.bias))
        found = one.solve(self._whole[name], self.ridge, bias is not None)
        if found is None:
            self.done.left[name] = "its inputs are constant or not finite"
            self._leave(name)
            return
        self._small[name].copy_(found[0])
        self.done.fitted.append(name)
        if bias is not None:
            tensor = self.tensors[bias]
            if bias not in self._whole:
                self._whole[bias] = tensor.detach().clone()
                self.done._before.append((tensor, self._whole[bias]))
                self._small[bias] = self._whole[bias].clone()
            self._small[bias].add_(found[1].to(tensor))

    def _leave(self, name: str) -> None:
        """Only take the weight's channels."""
        import torch

        for dim, indices in self.gone[name].items():
            where = torch.from_numpy(indices).to(self._small[name].device)
            self._small[name].index_fill_(dim, where, 0.0)


class _Fit:
    """What is learnt of one weight's inputs."""

    def __init__(self, use: Use, weight: Tensor, gone: Any, batches: int) -> None:
        import torch

        self.bias = use.bias
        self._dim = use.dim
        channels = weight.shape[use.dim]
        positions = weight[0, 0].numel()
        enough = len(use.rows(patches=True)) * batches >= _ROWS_EACH * channels * positions
        self._patches = (
            use.patches is not None and channels * positions <= PATCH_FEATURES and enough
        )
        each = positions if self._patches else 1
        left = np.setdiff1d(np.arange(channels), gone)
        self._left = torch.from_numpy((left[:, None] * each + np.arange(each)).ravel())
        self._moments = Moments()

    def add(self, x: Use, z: Use) -> None:
        """Take note of the inputs in the whole and in the small model."""
        rows = z.rows(self._patches)
        self._moments.add(x.rows(self._patches), rows[:, self._left.to(rows.device)])

    def solve(self, weight: Tensor, ridge: float, bias: bool) -> tuple[Tensor, Tensor] | None:
        """The whole new weight, zero where channels are gone, and what is added to the bias."""
        import torch

        wide = weight.detach().double().cpu()
        by_channel = wide.movedim(self._dim, 0)
        # With patches [channels * positions, outputs], else [channels, outputs * positions].
        matrix = wide.flatten(1).T if self._patches else by_channel.flatten(1)
        found = fit(self._moments, matrix, self._left, ridge, bias)
        if found is None:
            return None
        full = torch.zeros_like(matrix)
        full[self._left] = found[0]
        if self._patches:
            return full.T.reshape(wide.shape).to(weight), found[1]
        new = full.reshape(by_channel.shape).movedim(0, self._dim)
        # Away from the borders, an output is the sum over all positions of the kernel.
        added = found[1].reshape(by_channel.shape[1], -1).sum(1)
        return new.to(weight), added


def _gone(structure: Structure, kept: Kept) -> dict[str, dict[int, Any]]:
    """For each weight that uses removed atoms, the indices that go of each dimension."""
    found: dict[str, dict[int, list[Any]]] = {}
    for group in structure.groups:
        if group.name not in kept or kept[group.name].all():
            continue
        for member in group.members:
            if member.role == "consume":
                indices = member.index[~kept[group.name]].ravel()
                found.setdefault(member.tensor, {}).setdefault(member.dim, []).append(indices)
    return {
        tensor: {dim: np.unique(np.concatenate(parts)) for dim, parts in dims.items()}
        for tensor, dims in found.items()
    }
