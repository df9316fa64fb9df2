"""How much is to be gone after each step."""

from __future__ import annotations

from dataclasses import dataclass

from ds_prune.target import Target


@dataclass(frozen=True)
class Schedule:
    """From nothing to the target on a cubic curve, then a pause, then the removal.

    Zhu & Gupta, To prune, or not to prune, 2017 (arXiv:1710.01878).

    Args:
        target: What holds from `freeze` on.
        begin: The step after which atoms begin to go.
        freeze: The step at which the last choice is made.
        end: The step after which they are removed from the model.
        every: Steps between two choices.
    """

    target: Target
    begin: int
    freeze: int
    end: int
    every: int

    def due(self, step: int) -> bool:
        """Whether a choice is to be made after this step."""
        within = self.begin < step <= self.freeze
        return within and ((step - self.begin) % self.every == 0 or step == self.freeze)

    def at(self, step: int) -> Target:
        """What is to hold after this step."""
        done = (step - self.begin) / (self.freeze - self.begin)
        share = 1 - (1 - min(max(done, 0.0), 1.0)) ** 3
        target = self.target
        bounds = {kind: 1 - share * (1 - bound) for kind, bound in target.bounds().items()}
        ratio = None if target.ratio is None else share * target.ratio
        layers = {name: share * removed for name, removed in target.layers.items()}
        return target.model_copy(update={**bounds, "ratio": ratio, "layers": layers})
