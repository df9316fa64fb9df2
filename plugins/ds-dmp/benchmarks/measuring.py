"""Where the benchmarks beside it compute 16 bit, how they take a training step, and tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

import ds_core as ds
from ds_core.components import Backend
from ds_core.session import Session
from ds_core.testing import emulated_16bit

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """What a benchmark computes on.

    Attributes:
        backend: For sessions.
        real: The hardware, also where `backend` emulates.
        low: The 16-bit dtype that is fast or emulated; None where there is none.
    """

    backend: Backend
    real: Backend
    low: str | None

    @property
    def emulated(self) -> bool:
        """Whether 16 bit is emulated; times say nothing about 16-bit hardware then."""
        return self.backend is not self.real

    @property
    def device(self) -> str:
        """The type of the device."""
        return self.backend.device_type

    def autocast(self, enabled: bool = True) -> AbstractContextManager[Any]:
        """Static autocast, as one writes it by hand; nothing where it is not enabled.

        A disabled region around a session's would keep that one's casts of weights in memory.
        """
        if not enabled:
            return nullcontext()
        return torch.autocast(self.device, DTYPES.get(self.low or ""))

    def heading(self) -> str:
        """One line on the machine, and one on its 16-bit arithmetic."""
        info = self.real.info()
        reasons = " ".join(f"{dtype}: {info.dtypes[dtype].reason}" for dtype in DTYPES)
        if info.best == "fp32":
            reasons = f"No 16-bit dtype is fast here. {reasons}"
        if self.emulated:
            reasons += f"\n{self.low} is emulated in float32, whose speed is not that of hardware."
        software = f"torch {torch.__version__}, threads: {torch.get_num_threads()}"
        return f"{info.name}, {self.device}, {software}\n{reasons}"


@contextmanager
def arithmetic(*, emulate: bool) -> Iterator[Arithmetic]:
    """The best device that is here.

    Args:
        emulate: Emulate bfloat16 where no 16-bit dtype is fast.
    """
    with ds.attach(nn.Linear(1, 1), config={}) as session:
        real = session.backend
    best = real.info().best
    if best != "fp32":
        yield Arithmetic(real, real, best)
    elif not emulate:
        yield Arithmetic(real, real, None)
    else:
        with emulated_16bit(("bf16",)) as backend:
            yield Arithmetic(backend, real, "bf16")


@dataclass(frozen=True)
class Job:
    """A model, and the loss of the one batch that it is trained on over and over."""

    model: nn.Module
    loss: Callable[[nn.Module], Tensor]


class Training:
    """Steps of a job.

    Args:
        job: On the device.
        place: What to compute on.
        precision: `fp32` or `autocast`, by hand, or options of a session's precision.
        lr: Of SGD with momentum.
    """

    def __init__(
        self, job: Job, place: Arithmetic, precision: str | dict[str, Any], lr: float = 1e-4
    ) -> None:
        self.job, self.place, self.low = job, place, precision == "autocast"
        self.optimizer = torch.optim.SGD(job.model.parameters(), lr, momentum=0.9)
        scaled = self.low and place.low == "fp16"
        self.scaler = torch.amp.GradScaler(place.device, enabled=scaled)
        self.session: Session | None = None
        if not isinstance(precision, str):
            self.session = ds.attach(
                job.model, self.optimizer, backend=place.backend, precision=precision, config={}
            )

    def backward(self) -> None:
        """Forward and backward; gradients are left where they are."""
        with self.place.autocast(self.low):
            loss = self.job.loss(self.job.model)
        self.scaler.scale(loss).backward()

    def passes(self) -> None:
        """Forward and backward alone."""
        self.backward()
        self.optimizer.zero_grad()

    def step(self) -> None:
        """A whole step."""
        self.backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def in_turns(
    calls: Sequence[Callable[[], None]], rounds: int, place: Arithmetic, cpu_time: bool = False
) -> list[list[float]]:
    """Seconds of each call, by round; a round begins with another one each time.

    Args:
        calls: What to time.
        rounds: How often.
        place: Its device is waited for.
        cpu_time: Take the time that this process computed, not what passed, which on a busy
            machine contains that of others. It adds up over threads.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        for offset in range(len(calls)):
            index = (turn + offset) % len(calls)
            place.backend.synchronize()
            start = clock()
            calls[index]()
            place.backend.synchronize()
            seconds[index].append(clock() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median, and the range that four of five lie in."""
    tenths = quantiles(values, n=10, method="inclusive")
    return {"median": median(values), "p10": tenths[0], "p90": tenths[-1]}


def timing_options(parser: argparse.ArgumentParser) -> None:
    """Add those that every benchmark of time has."""
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time", action="store_true", help="the process's own time, for busy machines"
    )
    parser.add_argument("--json", action="store_true")


def details(session: Session) -> dict[str, Any]:
    """What a session's precision reports."""
    parts = session.report().components
    return next(part.details for part in parts if part.kind == "precision")


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
    key: str, form: str = ".3f", unit: str = "x", scale: float = 1.0
) -> Callable[[Any], str | None]:
    """A column that shows the number under a key."""

    def cell(row: Mapping[str, Any]) -> str | None:
        value = row.get(key)
        return None if value is None else f"{value * scale:{form}}{unit}"

    return cell


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


def met(row: Mapping[str, Any]) -> str | None:
    """A column that says whether a goal was reached."""
    return None if row.get("met") is None else "met" if row["met"] else "missed"
