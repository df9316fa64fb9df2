"""Costs by a benchmark's figures, and how far off they are on figures that were left out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import combinations

import numpy as np

from ds_core.errors import RefusedError
from ds_nccl_ring.bench.figures import Figures
from ds_nccl_ring.simulate.model import ALGORITHMS, Costs, Shape, Terms, terms

_UPLINK = [field.name for field in fields(Costs)].index("uplink")


@dataclass(frozen=True)
class Point:
    """One measured time."""

    algorithm: str
    shape: Shape
    nbytes: int
    seconds: float

    @property
    def terms(self) -> Terms:
        """What it consists of."""
        return terms(self.algorithm, self.shape, self.nbytes)


@dataclass(frozen=True)
class Misses:
    """Relative errors on points that a fit has not seen."""

    errors: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of their amounts."""
        return statistics.median(map(abs, self.errors))

    @property
    def worst(self) -> float:
        """Of their amounts."""
        return max(map(abs, self.errors))


def points(benchmarks: Sequence[Figures]) -> list[Point]:
    """All times of benchmarks on hosts that are alike.

    Raises:
        RefusedError: A benchmark ran on hosts that are not, or on a single one; or none timed an
            algorithm that can be simulated.
    """
    found: list[Point] = []
    for figures in benchmarks:
        if figures.rate is None or len(set(figures.hosts)) != 1:
            raise RefusedError(
                f"A benchmark on hosts with {figures.hosts} ranks calibrates nothing.",
                mend="Calibrate with several hosts that have equally many ranks.",
            )
        shape = Shape(len(figures.hosts), figures.hosts[0], figures.rate)
        found += [
            Point(row.algorithm, shape, row.nbytes, row.seconds)
            for row in figures.rows
            if row.algorithm in ALGORITHMS
        ]
    if benchmarks and not found:
        raise RefusedError(
            "No algorithm that can be simulated was timed.",
            mend=f"Time some of {', '.join(ALGORITHMS)}.",
        )
    return found


def costs(measured: Sequence[Point]) -> Costs:
    """The costs with the least sum of squares of relative errors.

    None is below zero, and no uplink is faster than its rate.

    Args:
        measured: Of one algorithm.
    """
    seconds = np.array([point.seconds for point in measured])
    # Divided by the times, so that what is left is the relative error.
    amounts = np.array([astuple(point.terms) for point in measured]) / seconds[:, None]
    # What is left once the uplinks have had their time.
    wanted = 1 - amounts[:, _UPLINK]
    scale = np.maximum(np.abs(amounts).max(0), 1e-300)
    columns = amounts.shape[1]
    best, found = float(np.square(wanted).sum()), np.zeros(columns)
    # So few columns that all choices of those above zero are tried. Messages come before the start,
    # which one cluster alone cannot tell apart from them.
    order = sorted(range(columns), key=lambda column: column == 0)
    for count in range(1, columns + 1):
        for chosen in combinations(order, count):
            part = amounts[:, chosen] / scale[list(chosen)]
            solved, _, rank, _ = np.linalg.lstsq(part, wanted, rcond=1e-9)
            off = float(np.square(part @ solved - wanted).sum())
            if rank == count and (solved >= 0).all() and off < best * (1 - 1e-6):
                best, found = off, np.zeros(columns)
                found[list(chosen)] = solved / scale[list(chosen)]
    found[_UPLINK] += 1
    return Costs(*map(float, found))


def fit(measured: Sequence[Point]) -> dict[str, Costs]:
    """The costs of each algorithm that was measured."""
    names = dict.fromkeys(point.algorithm for point in measured)
    return {name: costs([point for point in measured if point.algorithm == name]) for name in names}


def misses(fitted: dict[str, Costs], held_out: Sequence[Point]) -> Misses:
    """How far off costs are on points that they were not fitted to."""
    return Misses(
        tuple(
            fitted[point.algorithm].seconds(point.terms) / point.seconds - 1 for point in held_out
        )
    )


def leave_one_out(measured: Sequence[Point]) -> Misses | None:
    """How far off each point is by a fit to all others; None where there are too few of them."""
    found: list[float] = []
    for number, point in enumerate(measured):
        others = [
            other
            for place, other in enumerate(measured)
            if place != number and other.algorithm == point.algorithm
        ]
        if len(others) >= 2:
            found += misses({point.algorithm: costs(others)}, [point]).errors
    return Misses(tuple(found)) if found else None
