"""How far each rank of a host is: words that only their owner writes, and a bell for each rank."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum

import numpy as np

LINE = 64
"""Bytes of a cache line; a word has one to itself."""

BELL = os.EFD_NONBLOCK | os.EFD_CLOEXEC if hasattr(os, "EFD_CLOEXEC") else 0
"""How a bell is made by eventfd(2)."""

_lock = threading.Lock()


class Stage(IntEnum):
    """What a word counts the chunks of."""

    FILLED = 0
    """Copied into the rank's slot."""
    REDUCED = 1
    """The rank's shard is what it shall be."""
    LEFT = 2
    """The rank has read all that it needs of all slots."""


class Words:
    """The words of all ranks of a host.

    Nobody spins: whoever advances rings the others' bells, eventfd(2) descriptors that each polls
    together with its sockets.

    Args:
        memory: At least `size(ranks)` bytes that the ranks share, zeros at first.
        me: Which of the ranks this is.
        bells: Of each rank.
    """

    def __init__(self, memory: memoryview, me: int, bells: Sequence[int]) -> None:
        ranks = len(bells)
        array = np.frombuffer(memory, dtype=np.int64, count=self.size(ranks) // 8)
        words = array.reshape(ranks, len(Stage), LINE // 8)
        self._columns = [words[:, stage, 0] for stage in Stage]
        self._me = me
        self._others = [bell for rank, bell in enumerate(bells) if rank != me]

    @staticmethod
    def size(ranks: int) -> int:
        """Bytes for a host with so many ranks."""
        return ranks * len(Stage) * LINE

    def advance(self, stage: Stage, chunks: int) -> None:
        """Say that this rank has brought so many chunks to a stage."""
        _fence()
        self._columns[stage][self._me] = chunks
        for bell in self._others:
            ring(bell)

    def behind(self, stage: Stage, chunks: int, ranks: int) -> int | None:
        """The first of the first `ranks` ranks that is not so far yet; None where all are."""
        for rank, count in enumerate(self._columns[stage][:ranks].tolist()):
            if count < chunks:
                return rank
        _fence()
        return None


def ring(bell: int) -> None:
    """Wake the rank whose bell it is, or keep it from falling asleep."""
    with suppress(BlockingIOError):
        os.eventfd_write(bell, 1)


def _fence() -> None:
    """Keep what was written or read before it before what comes after it.

    x86 does so by itself. Elsewhere the release of the first lock and the acquisition of the second
    cannot be reordered.
    """
    with _lock:
        pass
    with _lock:
        pass
