"""Which dtype each unit computes in, look after look. No torch: numbers in, changes out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ds_dmp.evidence import Danger, Evidence, Limits

URGENT = 4.0
"""So far beyond a limit that one look is enough."""

RELIEF = 0.5
"""A dtype must be this far below every limit before a layer goes back to it."""

MAX_PATIENCE = 64
"""Looks; patience is not doubled beyond."""


@dataclass(frozen=True)
class Flip:
    """One unit changed its dtype."""

    step: int
    unit: str
    before: str
    after: str
    why: str


@dataclass
class Standing:
    """What is remembered of one unit."""

    dtype: str
    patience: int
    why: str = "no trouble so far"
    trouble: int = 0
    """Looks in a row that found its dtype unsafe."""
    calm: int = 0
    """Looks in a row that found a cheaper dtype safe."""
    went_back: bool = False
    """It has returned to 16 bit before: leaving it again is a relapse."""
    danger: float = 0.0
    """Of the cheapest dtype, at the last look."""
    seen: bool = False


@dataclass
class Decisions:
    """Units, their dtypes and the rules by which these change.

    Promotion is quick and demotion slow: a unit leaves a dtype at once where numbers broke or a
    limit was far exceeded, else after `sustain` looks; it returns to a cheaper one after
    `patience` quiet looks, which double whenever it relapses.

    Args:
        units: Names.
        ladder: Dtypes from the preferred to `fp32`, the last.
        limits: Where danger begins.
        sustain: Looks.
        patience: Looks.
        max_flips: In one look.
    """

    units: Sequence[str]
    ladder: Sequence[str]
    limits: Limits
    sustain: int = 2
    patience: int = 4
    max_flips: int = 8
    standings: dict[str, Standing] = field(default_factory=dict)
    flips: list[Flip] = field(default_factory=list)

    def __post_init__(self) -> None:
        for unit in self.units:
            self.standings.setdefault(unit, Standing(self.ladder[0], self.patience))

    def dtype(self, unit: str) -> str:
        """What `unit` computes in."""
        return self.standings[unit].dtype

    def put(self, unit: str, dtype: str, step: int, why: str) -> None:
        """Change a unit's dtype for a reason from outside, as a schedule or a cost."""
        standing = self.standings[unit]
        if standing.dtype != dtype:
            self.flips.append(Flip(step, unit, standing.dtype, dtype, why))
        standing.dtype, standing.why = dtype, why
        standing.trouble = standing.calm = 0

    def look(
        self,
        evidence: Mapping[str, Sequence[Evidence]],
        step: int,
        scale: float = 1.0,
        held: Collection[str] = (),
        conflicts: Collection[str] = (),
    ) -> list[Flip]:
        """Take note of what a look found and change what must change.

        Args:
            evidence: Of each unit's layers, the worst of which counts; units that were not called
                may be missing.
            step: For the record.
            scale: The loss scale from now on.
            held: Units whose dtype is fixed for now, by schedule or by cost.
            conflicts: Units that no loss scale fits together with the others.

        Returns:
            The changes, at most `max_flips`.
        """
        wishes: list[tuple[float, Flip]] = []
        for unit in self.units:
            found = [one for one in evidence.get(unit, ()) if one.calls]
            if not found:
                continue
            standing = self.standings[unit]
            standing.seen = True
            dangers = {
                dtype: max(
                    (one.danger(dtype, standing.dtype, scale, self.limits) for one in found),
                    key=lambda danger: danger.value,
                )
                for dtype in self.ladder
            }
            if unit in conflicts and "fp16" in dangers:
                why = "no loss scale fits it and the others"
                dangers["fp16"] = Danger(URGENT, why)
            standing.danger = dangers[self.ladder[0]].value
            if unit in held:
                continue
            wish = self._promotion(unit, dangers, step) or self._demotion(unit, dangers, step)
            if wish is not None:
                wishes.append(wish)
        wishes.sort(key=lambda wish: wish[0], reverse=True)
        made = [flip for _, flip in wishes[: self.max_flips]]
        for flip in made:
            self._make(flip)
        return made

    def _promotion(
        self, unit: str, dangers: Mapping[str, Danger], step: int
    ) -> tuple[float, Flip] | None:
        standing = self.standings[unit]
        here = dangers[standing.dtype]
        if here.value <= 1:
            standing.trouble = 0
            return None
        standing.calm = 0
        standing.trouble += 1
        if here.value < URGENT and standing.trouble < self.sustain:
            return None
        after = next(
            dtype
            for dtype in self.ladder
            if dtype != standing.dtype and (dangers[dtype].value <= 1 or dtype == self.ladder[-1])
        )
        return here.value, Flip(step, unit, standing.dtype, after, here.why)

    def _demotion(
        self, unit: str, dangers: Mapping[str, Danger], step: int
    ) -> tuple[float, Flip] | None:
        standing = self.standings[unit]
        if standing.trouble:
            return None
        cheaper = self.ladder[: self.ladder.index(standing.dtype)]
        safe = [dtype for dtype in cheaper if dangers[dtype].value <= RELIEF]
        standing.calm = standing.calm + 1 if safe else 0
        if not safe or standing.calm < standing.patience:
            return None
        why = f"quiet for {standing.calm} looks"
        return -1.0, Flip(step, unit, standing.dtype, safe[0], why)

    def _make(self, flip: Flip) -> None:
        standing = self.standings[flip.unit]
        down = self.ladder.index(flip.after) < self.ladder.index(flip.before)
        back = down and not standing.trouble
        if not back and standing.went_back:
            standing.patience = min(standing.patience * 2, MAX_PATIENCE)
        standing.went_back = back
        standing.dtype, standing.why = flip.after, flip.why
        standing.trouble = standing.calm = 0
        self.flips.append(flip)

    def state_dict(self) -> dict[str, Any]:
        """Every standing and every change so far."""
        return {
            "standings": {unit: asdict(standing) for unit, standing in self.standings.items()},
            "flips": [asdict(flip) for flip in self.flips],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; units that are no longer there are left out."""
        for unit, standing in state["standings"].items():
            if unit in self.standings:
                self.standings[unit] = Standing(**standing)
        self.flips = [Flip(**flip) for flip in state["flips"]]
