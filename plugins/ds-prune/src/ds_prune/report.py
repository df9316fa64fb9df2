"""What became of a model, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pydantic

from ds_prune.structure import Kept, Structure

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components import Backend
    from ds_prune.surgery.shrink import Outcome


class Result(pydantic.BaseModel):
    """A removal in figures, before and after."""

    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    """Of one forward of the example inputs."""
    seconds: tuple[float, float] | None
    """Medians of the same forward, in evaluation mode."""
    error: float
    """Largest relative error of the outputs in the proof."""
    layers: list[dict[str, Any]]
    left: dict[str, str]
    """Groups that stayed whole, and why."""
    history: list[tuple[int, dict[str, int]]] = []
    """Channels that were to stay, by group, after these steps."""

    @classmethod
    def of(
        cls,
        structure: Structure,
        outcome: Outcome,
        seconds: tuple[float, float] | None,
        history: Sequence[tuple[int, dict[str, int]]] = (),
        left: Mapping[str, str] | None = None,
    ) -> Result:
        """From the structure before and the outcome of shrinking."""
        kept = outcome.kept
        return cls(
            parameters=(structure.parameters({}), structure.parameters(kept)),
            multiply_adds=(structure.multiply_adds({}), structure.multiply_adds(kept)),
            seconds=seconds,
            error=outcome.error,
            layers=layers_of(structure, kept),
            left={**reasons_of(structure, left or {}), **outcome.left},
            history=list(history),
        )

    def report(self) -> dict[str, Any]:
        """For `Session.report`."""
        shares = {
            name: {"before": before, "after": after, "ratio": after / before if before else 1.0}
            for name, (before, after) in (
                ("parameters", self.parameters),
                ("multiply-adds", self.multiply_adds),
                *([("seconds of a forward", self.seconds)] if self.seconds else []),
            )
        }
        return {
            **shares,
            "error in the proof": self.error,
            "layers": self.layers,
            "left whole": self.left,
            "history": [[step, counts] for step, counts in self.history],
        }


def layers_of(structure: Structure, kept: Kept) -> list[dict[str, Any]]:
    """For each group what stays, of how much."""
    rows = []
    for group in structure.groups:
        stays = int(kept[group.name].sum()) if group.name in kept else group.count
        rows.append({"layer": group.name, "atom": group.kind, "kept": stays, "of": group.count})
    return rows


def reasons_of(structure: Structure, left: Mapping[str, str]) -> dict[str, str]:
    """What stays whole, and why: parameters by name, and groups."""
    found = {one.tensor: one.reason for one in structure.frozen if one.dim == 0}
    return {**found, **left}


def measure_forward(
    backend: Backend, model: Module, batch: tuple[tuple[Any, ...], Mapping[str, Any]]
) -> float:
    """Seconds of one forward in evaluation mode."""
    from ds_prune.surgery.undisturbed import undisturbed
    from ds_prune.timing.timer import Run, interleaved

    with undisturbed(model):
        (seconds,) = interleaved(backend)([Run(model, *batch)])
    return seconds
