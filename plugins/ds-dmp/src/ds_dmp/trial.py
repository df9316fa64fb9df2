"""Whole training steps, timed with and without what the costs of single layers advise.

The time of a step is more than that of its layers: attention, normalisations and activation
functions between them compute in whatever dtype reaches them, and not all gain by it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Hashable, Sequence

import pydantic

from ds_core.components import disk_cache

ADVISED, ALL, NONE = "advised", "all", "none"
"""Ways to take a step: 16 bit as the layers' costs advise, in all layers that are stable in it, or
in none."""

GAIN = 0.97
"""Another way than the advised one must take less than this share of its time."""

ROUNDS = 5
"""Steps in each way; the first ones, which also choose kernels, do not count."""

_GIVEN_UP = 12 * ROUNDS
"""Steps; batches that all differ cannot be compared."""


class Trial:
    """Takes turns between ways to take a step, and says which one is fastest.

    Args:
        ways: To be compared, the advised one first.
        wait: Waits for the device, so that what is timed is over.
        agree: Whether something is so on all ranks. They take the same way in each step, and end
            in the same one, though their batches may differ.
    """

    def __init__(
        self, ways: Sequence[str], wait: Callable[[], None], agree: Callable[[bool], bool]
    ) -> None:
        self.ways = ways
        self._wait = wait
        self._agree = agree
        self._seconds: dict[str, list[float]] = {way: [] for way in ways}
        self._start: float | None = None
        self._batch: list[Hashable] = []
        self._first: list[Hashable] | None = None
        self._steps = 0
        self._timed = 0

    @property
    def way(self) -> str:
        """How the next step is taken."""
        return self.ways[self._timed % len(self.ways)]

    @property
    def over(self) -> bool:
        """Whether enough was seen, or it was given up."""
        return self._timed >= ROUNDS * len(self.ways) or self._steps >= _GIVEN_UP

    def forward(self, shapes: Hashable) -> None:
        """A forward of the step begins; `shapes` are those of its inputs."""
        if self._start is None:
            self._wait()
            self._start = time.perf_counter()
        self._batch.append(shapes)

    def step(self) -> None:
        """All gradients of the step are there; it counts if no rank saw a batch of other shapes."""
        seconds = 0.0
        if self._start is not None:
            self._wait()
            seconds = time.perf_counter() - self._start
        batch, self._batch, self._start = self._batch, [], None
        self._steps += 1
        self._first = self._first or batch
        if self._agree(bool(batch) and batch == self._first):
            self._seconds[self.way].append(seconds)
            self._timed += 1

    def seconds(self) -> list[float]:
        """The shortest step of each way; zeros where the trial was given up."""
        if self._timed < ROUNDS * len(self.ways):
            return [0.0] * len(self.ways)
        # Whatever else the machine does only ever adds time.
        return [min(self._seconds[way][1:]) for way in self.ways]


class Verdict(pydantic.BaseModel):
    """What a trial came to."""

    way: str = ADVISED
    ratio: float = 1.0
    """Its time over that of the advised way."""


def judge(ways: Sequence[str], seconds: Sequence[float]) -> Verdict:
    """The fastest way, if it beats the advised one, which is first, by more than times vary."""
    best = min(range(len(ways)), key=lambda index: seconds[index])
    if not seconds[0] or seconds[best] >= GAIN * seconds[0]:
        return Verdict()
    return Verdict(way=ways[best], ratio=seconds[best] / seconds[0])


def file_for(identity: Sequence[Hashable]) -> str:
    """Where the verdict on a model and a device is kept, so that later runs decide alike."""
    digest = hashlib.sha256(json.dumps(identity, default=str).encode()).hexdigest()[:16]
    return f"dmp-trial-{digest}.json"


def recall(file: str) -> Verdict | None:
    """A verdict that was kept."""
    text = disk_cache.load(file)
    try:
        return Verdict.model_validate_json(text) if text else None
    except ValueError:
        return None


def keep(file: str, verdict: Verdict) -> None:
    """Keep a verdict."""
    disk_cache.store(file, verdict.model_dump_json())
