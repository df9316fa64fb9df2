"""Each group's atoms in the order in which they go, in portions that hardware can make use of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ds_core.errors import RefusedError, nearest
from ds_prune.structure import Group, Structure
from ds_prune.target import ROUNDING, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

RoundTo = int | Mapping[str, int] | Literal["auto"]
"""Of what the numbers of channels that remain are multiples: for all groups, or by name. `auto`: of
8, which kernels on most devices are made for, and in narrower groups of the largest power of two
that is no more than an eighth of them."""

_AUTO = 8


@dataclass(frozen=True)
class Lot:
    """A group that may shrink.

    Attributes:
        name: The group's.
        order: `[atoms]`, the least important first.
        scores: `[atoms]` in that order, ascending.
        gone: `[steps + 1]`: how many of the first atoms are gone after each step, from 0 on.
        first: The number of steps that must be taken at least.
        last: The number of steps that may be taken at most.
    """

    name: str
    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    gone: NDArray[np.int64]
    first: int
    last: int

    def mask(self, steps: int) -> NDArray[np.bool_]:
        """Whether each atom stays after so many steps."""
        kept = np.ones(len(self.order), np.bool_)
        kept[self.order[: self.gone[steps]]] = False
        return kept


def make_lots(
    structure: Structure,
    scores: Mapping[str, NDArray[np.float64]],
    target: Target,
    round_to: RoundTo = 1,
    normalised: bool = False,
) -> list[Lot]:
    """The groups that may shrink, with how far they must and may.

    Groups without scores stay whole, and so do those that are normalised over their atoms, unless
    they are asked for.

    Raises:
        RefusedError: Scores do not fit the structure, or `target.layers` names no layer that can
            shrink, or names one group twice.
    """
    _check(structure, scores)
    asked = _asked(structure, target.layers)
    lots = []
    for group in structure.groups:
        share = asked.get(group.name)
        if group.name not in scores or (group.normalised and share is None and not normalised):
            continue
        multiple = _multiple(group, round_to)
        kept = _possible(group.count, granule(group, math.lcm(multiple, group.multiple)))
        first, last = _steps(kept, target, share)
        if last:
            values = np.asarray(scores[group.name], np.float64)
            order = values.argsort(kind="stable")
            gone = group.count - kept
            lots.append(Lot(group.name, order, values[order], gone, first, last))
    return lots


def check_normalised(structure: Structure, target: Target, normalised: bool) -> None:
    """Raise where all that could go is normalised over its atoms, and nobody asked for that."""
    if normalised or target.layers or not all(group.normalised for group in structure.groups):
        return
    raise RefusedError(
        "Statistics are taken over all channels that could go, so that the others would be "
        "normalised differently without them.",
        mend="If that may be, say normalised=True.",
    )


def _multiple(group: Group, round_to: RoundTo) -> int:
    if isinstance(round_to, int):
        return round_to
    if round_to != "auto":
        return round_to.get(group.name, 1)
    eighth = max(group.count // 8, 1)
    return min(1 << (eighth.bit_length() - 1), _AUTO)


def step_of(round_to: RoundTo) -> int:
    """Of what the widths of wide layers are a multiple."""
    if isinstance(round_to, int):
        return round_to
    return _AUTO if round_to == "auto" else 1


def granule(group: Group, round_to: int) -> int:
    """How many atoms go at once, so that channels made and used are multiples of `round_to`."""
    widths = {member.index.shape[1] for member in group.members if member.role != "follow"}
    return math.lcm(*(round_to // math.gcd(round_to, width) for width in widths))


def _possible(count: int, step: int) -> NDArray[np.int64]:
    """Numbers of atoms that may stay: all, and below that every multiple of `step`."""
    return np.array([count, *range(step * ((count - 1) // step), 0, -step)], np.int64)


def _steps(kept: NDArray[np.int64], target: Target, share: float | None) -> tuple[int, int]:
    """How many steps must and may be taken, where `kept` atoms stay after each."""
    count, end = int(kept[0]), len(kept) - 1
    least = target.min_kept * count - ROUNDING
    last = max(int((kept >= least).sum()) - 1, 0) if share is None else end
    wanted = share if share is not None else target.ratio or 0.0
    first = min(int((kept > (1 - wanted) * count + ROUNDING).sum()), last)
    return first, last if share is None else first


def _asked(structure: Structure, layers: Mapping[str, float]) -> dict[str, float]:
    """What `layers` says of each group that it says something of."""
    found: dict[str, dict[str, float]] = {}
    known: set[str] = set()
    for group in structure.groups:
        makers = [member.tensor for member in group.members if member.role == "produce"]
        for name in (group.name, *(tensor.rpartition(".")[0] for tensor in makers)):
            known.add(name)
            fitting = [key for key in layers if _within(name, key)]
            if fitting:
                key = max(fitting, key=len)
                found.setdefault(group.name, {})[key] = layers[key]
    for key in layers:
        if not any(_within(name, key) for name in known):
            raise RefusedError(
                f"No layer {key!r} has channels that can be removed.",
                mend=nearest(key, known) or "The layers whose channels can be are in the analysis.",
            )
    for keys in found.values():
        if len(set(keys.values())) > 1:
            one = min(keys)
            other = min(key for key in keys if keys[key] != keys[one])
            raise RefusedError(
                f"Layers {one!r} and {other!r} share their channels and cannot lose different "
                f"parts of them ({keys[one]:g} and {keys[other]:g}).",
                mend="Give both the same share.",
            )
    return {group: next(iter(keys.values())) for group, keys in found.items()}


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _check(structure: Structure, scores: Mapping[str, NDArray[np.float64]]) -> None:
    counts = {group.name: group.count for group in structure.groups}
    for name, values in scores.items():
        if name not in counts:
            raise RefusedError(
                f"There are scores for a group {name!r}, which the model does not have.",
                mend=nearest(name, counts) or "Score the groups of the structure that is given.",
            )
        if np.shape(values) != (counts[name],):
            raise RefusedError(
                f"Group {name!r} has {counts[name]} atoms, but its scores are of shape "
                f"{list(np.shape(values))}.",
                mend="Score the structure that is given, as it changes when something is removed.",
            )
        if not (np.isfinite(values).all() and (np.asarray(values) >= 0).all()):
            raise RefusedError(
                f"Not all scores of group {name!r} are finite numbers from 0 up.",
                mend="Check that training is stable and that the criterion fits the model.",
            )
