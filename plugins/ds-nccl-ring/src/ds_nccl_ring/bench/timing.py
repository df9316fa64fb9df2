"""Times of several ways to do the same, side by side on all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Reduce = Callable[["Tensor"], None]

_SHORT = 0.03
"""Seconds: what is shorter is timed several times in a row."""
_MOST_CALLS = 16


@dataclass(frozen=True)
class Times:
    """Seconds of one call in each round, on this rank, and the first call's result."""

    seconds: list[float]
    result: Tensor


def interleaved(
    ways: Mapping[str, Reduce],
    source: Tensor,
    *,
    barrier: Callable[[], None],
    slowest: Callable[[list[float]], list[float]],
    rounds: int,
    budget: float,
) -> dict[str, Times]:
    """Time each way in turn, round after round, so that what disturbs the machine hits all alike.

    Args:
        ways: Collectives that work in place; called in the same order on all ranks.
        source: What is reduced; left as it is.
        barrier: Returns once all ranks are there.
        slowest: The element-wise maximum over ranks.
        rounds: At most.
        budget: Seconds for each way at most, except for its first call. A way whose first call
            takes longer has that as its only round.
    """
    results: dict[str, Tensor] = {}
    first: list[float] = []
    for reduce in ways.values():
        tensor = source.clone()
        barrier()
        start = time.perf_counter()
        reduce(tensor)
        first.append(time.perf_counter() - start)
        results[list(ways)[len(results)]] = tensor
    estimates = dict(zip(ways, slowest(first), strict=True))
    # Each call has its own tensor: sums of sums would overflow.
    calls = {name: min(_MOST_CALLS, 1 + int(_SHORT / est)) for name, est in estimates.items()}
    turns = {name: int(budget / (calls[name] * est)) for name, est in estimates.items()}
    tensors = [source.clone() for _ in range(max(calls.values()))]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn >= turns[name]:
                continue
            for tensor in tensors[: calls[name]]:
                tensor.copy_(source)
            barrier()
            start = time.perf_counter()
            for tensor in tensors[: calls[name]]:
                ways[name](tensor)
            seconds[name].append((time.perf_counter() - start) / calls[name])
    for name, once in zip(ways, first, strict=True):
        seconds[name] = slowest(seconds[name] or [once])
    return {name: Times(seconds[name], results[name]) for name in ways}
