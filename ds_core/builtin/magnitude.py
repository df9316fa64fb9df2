"""Unstructured magnitude pruning: the simplest honest baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from ds_core.components import Options, Pruner
from ds_core.errors import RefusedError
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.session import Session


class Magnitude(Pruner):
    """Sets the smallest weights to zero while training, on a cubic schedule.

    Weights are tensors of two or more dimensions; biases and norms stay whole. Masks are chosen
    anew every `every` steps from the weights as they are, so a weight may come back while the
    schedule runs; afterwards they are fixed. Zeros make a model compressible, not faster: dense
    kernels compute them all the same.

    Zhu & Gupta, To prune, or not to prune, 2017 (arXiv:1710.01878).
    """

    name = "magnitude"
    rank = 1

    class Config(Options):
        """How much, over which weights, and when."""

        sparsity: float = pydantic.Field(default=0.5, gt=0, lt=1)
        """Share of the weights that are zero in the end."""
        scope: Literal["global", "layer"] = "global"
        """Whether the smallest are sought in the whole model or in each layer."""
        begin: int = pydantic.Field(default=0, ge=0)
        """The step after which pruning begins."""
        end: int | None = pydantic.Field(default=None, ge=1)
        """The step at which the sparsity is reached; without one, half of the session's
        `total_steps`, or 1000."""
        every: int = pydantic.Field(default=10, ge=1)
        """Steps between two choices of masks."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._step = 0
        self._end = 0
        self._masks: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Find the weights; nothing is zeroed before a step was taken."""
        self._take(model)
        self._end = self.config.end or max((session.total_steps or 2000) // 2, 1)
        if self._end <= self.config.begin:
            raise RefusedError(
                f"pruner 'magnitude': the schedule ends at step {self._end}, before it begins "
                f"(step {self.config.begin}).",
                mend="Set end to a later step.",
            )

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Look at the new weights; masks that no longer fit are dropped."""
        self._take(model)

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer, skipped: str | None) -> None:
        """Choose masks when the schedule says so, and keep masked weights at zero."""
        import torch

        if skipped:
            return
        config = self.config
        if optimizer is session.optimizers[0]:
            self._step += 1
            due = (self._step - config.begin) % config.every == 0 or self._step == self._end
            if config.begin < self._step <= self._end and due:
                self._choose(self.target(self._step))
        with torch.no_grad():
            for name, mask in self._masks.items():
                self._weights[name].mul_(mask)

    def target(self, step: int) -> float:
        """The share of zeros that the schedule wants after `step`."""
        done = (step - self.config.begin) / (self._end - self.config.begin)
        done = min(max(done, 0.0), 1.0)
        return float(self.config.sparsity * (1 - (1 - done) ** 3))

    def report(self) -> dict[str, Any]:
        layers: list[dict[str, Any]] = [
            {"layer": name, "zeros": int((weight == 0).sum()), "weights": weight.numel()}
            for name, weight in self._weights.items()
        ]
        total = sum(layer["weights"] for layer in layers)
        zeros = sum(layer["zeros"] for layer in layers)
        return {
            "sparsity": zeros / total if total else 0.0,
            "target": self.config.sparsity,
            "reached at step": self._end,
            "layers": layers,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "end": self._end, "masks": dict(self._masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._end = state["step"], state["end"]
        self._masks = {
            name: mask.to(self._weights[name].device) for name, mask in state["masks"].items()
        }

    def _take(self, model: Module) -> None:
        self._weights = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.dim() >= 2 and parameter.requires_grad
        }
        if not self._weights:
            raise RefusedError(
                f"pruner 'magnitude': {type(model).__name__} has no trainable weight of two or "
                "more dimensions.",
                mend="Leave the pruner out.",
            )
        self._masks = {
            name: mask
            for name, mask in self._masks.items()
            if name in self._weights and mask.shape == self._weights[name].shape
        }

    def _choose(self, sparsity: float) -> None:
        import torch

        with torch.no_grad():
            sizes = {name: weight.abs() for name, weight in self._weights.items()}
            by_layer = self.config.scope == "layer"
            groups = [[name] for name in sizes] if by_layer else [list(sizes)]
            for names in groups:
                values = torch.cat([sizes[name].flatten() for name in names])
                zeros = round(sparsity * values.numel())
                keep = torch.ones_like(values, dtype=torch.bool)
                # By rank, not by threshold: equal magnitudes must not all go or all stay.
                keep[values.argsort(stable=True)[:zeros]] = False
                parts = torch.split(keep, [sizes[name].numel() for name in names])
                for name, part in zip(names, parts, strict=True):
                    self._masks[name] = part.view_as(sizes[name])
