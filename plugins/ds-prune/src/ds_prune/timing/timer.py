"""Seconds that forwards take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components import Backend

_ROUNDS = 5
_LONG_ENOUGH = 2e-3  # seconds of one sample, beside which waiting for a device does not count
_MOST = 50


class Run(NamedTuple):
    """One forward to time."""

    module: Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = {}


Timer = Callable[[Sequence[Run]], list[float]]
"""Gives the seconds of one forward of each run."""


def interleaved(backend: Backend) -> Timer:
    """The least of several rounds, in each of which every run has its turn.

    What others do on the machine can only add to a time. Short forwards are timed several in a row.
    The device is waited for before and after; gradients are off.
    """

    def timer(runs: Sequence[Run]) -> list[float]:
        import torch

        def sample(run: Run, repeats: int) -> float:
            backend.synchronize()
            start = time.perf_counter()
            for _ in range(repeats):
                run.module(*run.args, **run.kwargs)
            backend.synchronize()
            return (time.perf_counter() - start) / repeats

        with torch.no_grad():
            for run in runs:
                sample(run, 1)  # the first run also chooses kernels
            repeats = [
                min(max(round(_LONG_ENOUGH / max(sample(run, 1), 1e-9)), 1), _MOST) for run in runs
            ]
            seconds = [
                [sample(run, count) for run, count in zip(runs, repeats, strict=True)]
                for _ in range(_ROUNDS)
            ]
        return [min(samples) for samples in zip(*seconds, strict=True)]

    return timer
