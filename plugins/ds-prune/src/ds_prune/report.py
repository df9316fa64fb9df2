"""What became of a model, for people."""

from __future__ import annotations

import copy
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
    """The shortest of several of that forward, in evaluation mode, timed in turns; None where the
    whole model could not be copied, or one of them not be timed."""
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


def measure_both(
    backend: Backend,
    whole: Module | None,
    small: Module,
    batch: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> tuple[float, float] | None:
    """Seconds of one forward of each in evaluation mode, in turns.

    None without the whole one, and where either fails, as for lack of memory: no reason to lose
    what was removed.
    """
    from ds_prune.surgery.undisturbed import undisturbed
    from ds_prune.timing.timer import Run, interleaved

    if whole is None:
        return None
    try:
        with undisturbed(whole), undisturbed(small):
            before, after = interleaved(backend)([Run(whole, *batch), Run(small, *batch)])
    except Exception:
        return None
    return before, after


def copied(model: Module) -> Module | None:
    """The model as it is, to be compared with later; None if it cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # whatever a user's module raises; then there is nothing to compare with
        return None
