"""Tables, spreads and timings in turns, which all benchmarks beside it share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any

import torch

PEER = "Torch-Pruning"


def table(columns: Mapping[str, Callable[[Any], str | None]], rows: Sequence[Any]) -> str:
    """The first column to the left, the others to the right; None is a dash."""
    lines = [list(columns), *([cell(row) or "-" for cell in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(
    key: str, form: str = ".3f", unit: str = "", scale: float = 1.0
) -> Callable[[Any], str | None]:
    """A column that shows the number under a key."""

    def cell(row: Mapping[str, Any]) -> str | None:
        value = row.get(key)
        return None if value is None else f"{value * scale:{form}}{unit}"

    return cell


def text(key: str) -> Callable[[Any], str | None]:
    """A column that shows what is under a key as it is."""
    return lambda row: None if row.get(key) is None else str(row[key])


def within(key: str, form: str = ".3f", scale: float = 1.0) -> Callable[[Any], str | None]:
    """A column that shows the `spread` under a key."""

    def cell(row: Mapping[str, Any]) -> str | None:
        if row.get(key) is None:
            return None
        middle, low, high = (
            f"{scale * row[key][name]:{form}}" for name in ("median", "p10", "p90")
        )
        return f"{middle} ({low}-{high})"

    return cell


def met(reached: bool) -> str:
    """What to say of a goal."""
    return "met" if reached else "missed"


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, and the range that four of five lie in."""
    if len(values) == 1:
        return dict.fromkeys(("median", "p10", "p90"), values[0])
    tenths = quantiles(values, n=10, method="inclusive")
    return {"median": median(values), "p10": tenths[0], "p90": tenths[-1]}


def in_turns(
    calls: Sequence[Callable[[], Any]], rounds: int, *, warm_up: int = 2, cpu_time: bool = False
) -> list[list[float]]:
    """Seconds of each call, by round; a round begins with another one each time.

    Args:
        calls: What to time.
        rounds: How often.
        warm_up: Rounds before them that are not timed.
        cpu_time: Take the time that this process computed, not what passed, which on a busy
            machine contains that of others. It adds up over threads.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(-warm_up, rounds):
        for offset in range(len(calls)):
            index = (turn + offset) % len(calls)
            _wait()
            start = clock()
            calls[index]()
            _wait()
            if turn >= 0:
                seconds[index].append(clock() - start)
    return seconds


def ratios(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """The spread of the ratios, round by round."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


def machine() -> str:
    """One line on what is computed on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, torch {torch.__version__}, threads: {torch.get_num_threads()}"


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
