"""Which atoms go: the least important ones for what their removal saves."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ds_core.errors import RefusedError
from ds_prune.lots import Lot, RoundTo, make_lots
from ds_prune.structure import Kept, Structure
from ds_prune.tally import Tally
from ds_prune.target import ROUNDING, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

Scope = Literal["global", "layer"]

_STRIDE = 0.05
"""Of the whole model's cost: after so much is saved, what atoms save is looked at anew."""

_NOUNS = {"flops": "multiply-adds", "params": "parameters", "latency": "time"}


def choose(
    structure: Structure,
    scores: Mapping[str, NDArray[np.float64]],
    target: Target,
    *,
    round_to: RoundTo = 1,
    latency: Callable[[Kept], float] | None = None,
    scope: Scope = "global",
    by_saving: bool = True,
    normalised: bool = False,
) -> Kept:
    """Take atoms away until all of the target holds, and no more than that.

    With scope `global`, atoms of all groups compete. Scores that are changes of the loss, as those
    of `taylor`, are divided by what an atom saves of the cost that is furthest from its bound: the
    greedy solution of the knapsack problem (as in HALP, Shen et al. 2022, arXiv:2110.10811).
    Savings change as groups shrink and are looked at anew whenever a twentieth of the cost is gone.
    Scores that are relative to their group's mean, as those of `magnitude`, say nothing of the
    loss: divided by savings, they would empty whole layers because these are large. With scope
    `layer`, all groups lose the same share of what they may lose.

    Either way, within a group the lowest scores go first and ties go by position, and in the end
    atoms come back, the most important ones first, until none could without missing the target. The
    choice depends on the arguments alone.

    Args:
        structure: Of the model as it is.
        scores: For each group's name `[atoms]` float64 from 0 up, in a unit that all groups share,
            as criteria give them. Groups that are not there stay whole.
        target: What must hold, as shares of the model as it is.
        round_to: What the channels that a shrunken group's layers make and use are multiples of,
            for all groups or for each by name; a group that has no more stays whole. `auto`: of 8,
            and of less in narrow groups.
        latency: Seconds with these atoms kept; needed for `target.latency`.
        scope: Whether atoms of different groups compete.
        by_saving: Whether scores are divided by savings; a criterion's `additive` tells.
        normalised: Take atoms of normalised groups too.

    Returns:
        Groups that shrink, at least one atom of each kept.

    Raises:
        RefusedError: The target cannot be reached, which says what could be; or scores or names
            do not fit the structure; or there is no `latency` though the target needs it.
    """
    lots = make_lots(structure, scores, target, round_to, normalised)
    costs = _Costs(structure, lots, target, latency)
    first, last = (np.array([getattr(lot, end) for lot in lots], np.int64) for end in _ENDS)
    costs.check_reachable(last, target)
    rank = _Rank(costs, last, scope, by_saving)
    steps = _take(costs, rank, first)
    _give_back(costs, rank, steps, first)
    return {lot.name: lot.mask(at) for lot, at in zip(lots, steps, strict=True) if at}


_ENDS = ("first", "last")


class _Costs:
    """What the model costs, as a function of how many steps each lot has taken."""

    def __init__(
        self,
        structure: Structure,
        lots: Sequence[Lot],
        target: Target,
        latency: Callable[[Kept], float] | None,
    ) -> None:
        self.lots = lots
        self._tally = Tally(structure)
        self._shares = target.bounds()
        self._latency = latency
        self._measured: dict[bytes, float] = {}
        if latency is None and "latency" in self._shares:
            raise RefusedError(
                "The target bounds latency, and no measured times are given.",
                mend="Measure the model first, or bound flops instead.",
            )
        # For each lot and step a row with what is gone of each extent; all rows in one array.
        parts = [self._tally.parts[lot.name] for lot in lots]
        tables = [
            np.concatenate([np.zeros_like(counts[:1]), counts[lot.order].cumsum(0)])[lot.gone]
            for lot, (_, counts) in zip(lots, parts, strict=True)
        ]
        self._width = np.array([len(rows) for rows, _ in parts], np.int64)
        self._rows = np.concatenate([rows for rows, _ in parts] or [np.zeros(0, np.int64)])
        self._gone = np.concatenate([t.ravel() for t in tables] or [np.zeros(0, np.int64)])
        ends = np.cumsum([table.size for table in tables], dtype=np.int64)
        self._start = np.concatenate([[0], ends[:-1]]) if lots else ends
        self._within = np.arange(self._width.sum()) - np.repeat(
            self._width.cumsum() - self._width, self._width
        )
        self._whole = {kind: self.cost(kind, np.zeros(len(lots), np.int64)) for kind in _NOUNS}

    def cost(self, kind: str, steps: Ints) -> float:
        """Multiply-adds, parameters or seconds; 0 for seconds that nobody asks for."""
        if kind == "latency":
            return self._seconds(steps)
        sizes = self._tally.whole.copy()
        at = np.repeat(self._start + steps * self._width, self._width) + self._within
        np.subtract.at(sizes, self._rows, self._gone[at])
        count = self._tally.multiply_adds if kind == "flops" else self._tally.parameters
        return count(sizes)

    def _seconds(self, steps: Ints) -> float:
        if self._latency is None or "latency" not in self._shares:
            return 0.0
        key = steps.tobytes()
        if key not in self._measured:
            masks = {lot.name: lot.mask(at) for lot, at in zip(self.lots, steps, strict=True) if at}
            self._measured[key] = self._latency(masks)
        return self._measured[key]

    def bound(self, kind: str) -> float:
        """What `kind` may cost at most."""
        return self._shares[kind] * self._whole[kind] * (1 + ROUNDING)

    def hold(self, steps: Ints) -> bool:
        """Whether nothing costs more than it may."""
        return all(self.cost(kind, steps) <= self.bound(kind) for kind in self._shares)

    def worst(self, steps: Ints) -> str:
        """The kind that is furthest above its bound, or nearest to it."""
        return max(
            self._shares, key=lambda kind: self.cost(kind, steps) / max(self.bound(kind), 1e-300)
        )

    def stride(self, kind: str) -> float:
        """How much of `kind` is saved before savings are looked at anew."""
        return _STRIDE * self._whole[kind]

    def saving(self, kind: str, lot: int, steps: Ints, end: int) -> float:
        """Of `kind` by each atom that goes, if all go that are between two steps of a lot."""
        low, high = steps.copy(), steps.copy()
        low[lot], high[lot] = min(steps[lot], end), max(steps[lot], end)
        atoms = self.lots[lot].gone[high[lot]] - self.lots[lot].gone[low[lot]]
        return (self.cost(kind, low) - self.cost(kind, high)) / max(int(atoms), 1)

    def check_reachable(self, last: Ints, target: Target) -> None:
        """Raise where even the fewest atoms cost too much."""
        for kind, share in self._shares.items():
            least = self.cost(kind, last)
            if least > self.bound(kind):
                reachable = math.ceil(least / self._whole[kind] * 1000) / 1000
                raise RefusedError(
                    f"{kind}={share:g} cannot be reached: with each layer at its least, "
                    f"{reachable:g} of the {_NOUNS[kind]} are left.",
                    mend=f"Ask for {reachable:g} or more, or lower min_kept "
                    f"(now {target.min_kept:g}) or what widths are rounded to.",
                )


@dataclass(frozen=True)
class _Rank:
    """In which order steps are taken."""

    costs: _Costs
    last: Ints
    scope: Scope
    by_saving: bool

    def keys(self, kind: str, steps: Ints, towards: Ints) -> list[tuple[Floats, Floats]]:
        """For each lot what decides when each of its steps is taken, and among equals.

        `[last]` each, ascending: what the step's atoms are worth, and the share of the lot's atoms
        that is gone after it. Savings are of `kind`, between `steps` and `towards`.
        """
        found = []
        for index, lot in enumerate(self.costs.lots):
            gone = lot.gone[: self.last[index] + 1]
            shares = gone[1:] / gone[-1]
            worth = np.add.reduceat(lot.scores[: gone[-1]], gone[:-1]) / np.diff(gone)
            saving = self.costs.saving(kind, index, steps, int(towards[index]))
            if saving <= 0:
                worth = np.full_like(worth, np.inf)
            elif self.scope == "layer":
                worth = shares
            elif self.by_saving:
                worth = worth / saving
            found.append((np.maximum.accumulate(worth), shares))
        return found

    def turns(self, kind: str, steps: Ints) -> Ints:
        """Which lots take the next steps, one after another, until all are at their last."""
        keys = [
            (worth[at:], shares[at:])
            for at, (worth, shares) in zip(steps, self.keys(kind, steps, self.last), strict=True)
        ]
        lots = np.repeat(np.arange(len(keys)), [len(worth) for worth, _ in keys])
        worth, shares = (np.concatenate([key[part] for key in keys]) for part in (0, 1))
        return lots[np.lexsort((lots, shares, worth))]


def _take(costs: _Costs, rank: _Rank, first: Ints) -> Ints:
    """The steps of each lot at which the target holds."""
    steps = first.copy()
    while not costs.hold(steps):
        kind = costs.worst(steps)
        goal = max(costs.bound(kind), costs.cost(kind, steps) - costs.stride(kind))
        turns = rank.turns(kind, steps)

        def after(count: int, steps: Ints = steps, turns: Ints = turns) -> Ints:
            return steps + np.bincount(turns[:count], minlength=len(steps))

        low, high = 0, len(turns)  # too few turns, enough of them
        while high - low > 1:
            middle = (low + high) // 2
            reached = costs.cost(kind, after(middle)) <= goal
            low, high = (low, middle) if reached else (middle, high)
        steps = after(high)
    return steps


def _give_back(costs: _Costs, rank: _Rank, steps: Ints, first: Ints) -> None:
    """Undo steps, the most valuable first, until none can be undone."""
    if (steps == first).all():
        return
    keys = rank.keys(costs.worst(steps), steps, first)

    def entry(lot: int) -> tuple[float, float, int]:
        worth, shares = (key[steps[lot] - 1] for key in keys[lot])
        return -worth, -shares, lot

    heap = [entry(int(lot)) for lot in np.flatnonzero(steps > first)]
    heapq.heapify(heap)
    while heap:
        lot = heapq.heappop(heap)[-1]
        steps[lot] -= 1
        if not costs.hold(steps):
            steps[lot] += 1  # others only make the model larger: it will not fit later either
        elif steps[lot] > first[lot]:
            heapq.heappush(heap, entry(lot))
