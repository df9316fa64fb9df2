"""The progressive schedule: float32 first, layers enter 16 bit one after another, safest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How many units may compute in 16 bit, step by step.

    Args:
        warmup: Steps in float32.
        ramp: Steps after them in which units enter.
        tail: Last steps in float32 again.
        total: Length of the training in steps; needed for a tail.
    """

    warmup: int
    ramp: int
    tail: int = 0
    total: int | None = None

    def share(self, step: int) -> float:
        """The share of units that may be in 16 bit after `step` steps, from 0 to 1."""
        if self.tail and self.total is not None and step >= self.total - self.tail:
            return 0.0
        if step < self.warmup:
            return 0.0
        return min((step - self.warmup + 1) / (self.ramp + 1), 1.0)

    def held(self, step: int, dangers: Mapping[str, float]) -> list[str]:
        """Units that must stay in float32 after `step` steps: those most at risk.

        Args:
            step: Steps that took place.
            dangers: Risk by unit; equal ones keep their order.
        """
        ascending = sorted(dangers, key=lambda unit: dangers[unit])
        return ascending[round(self.share(step) * len(ascending)) :]

    def phase(self, step: int) -> str:
        """What the schedule is at: `warm-up`, `ramp`, `open` or `tail`."""
        if self.tail and self.total is not None and step >= self.total - self.tail:
            return "tail"
        if step < self.warmup:
            return "warm-up"
        return "open" if self.share(step) >= 1 else "ramp"
