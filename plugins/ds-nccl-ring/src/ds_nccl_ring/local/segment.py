"""Memory that the ranks of a host share, and that leaves nothing behind.

It has no name in /dev/shm: the host's first rank makes it with memfd_create(2) and hands its file
descriptor to the others. So a crash at any time leaves nothing, and the size of /dev/shm, which
containers keep small, does not matter.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_nccl_ring.local.words import Words

if TYPE_CHECKING:
    from torch import Tensor

DEPTH = 6
"""Chunks that are under way at a time."""

SMALLEST_CHUNK = 64 << 10

_PAGE = 4096
_SHARE = 2
"""Of the memory that is free, one in so many bytes may be taken."""


def fitting_chunk(wanted: int, ranks: int, free: int, host: str) -> int:
    """The largest chunk up to `wanted` bytes whose segment fits into the memory that is free.

    Raises:
        RefusedError: Not even the smallest chunk fits.
    """
    chunk = wanted
    while chunk > SMALLEST_CHUNK and chunk * ranks * DEPTH > free // _SHARE:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
    if chunk * ranks * DEPTH > free // _SHARE:
        raise RefusedError(
            f"{ranks} ranks need {chunk * ranks * DEPTH >> 10} KiB of shared memory, and only "
            f"{free >> 10} KiB are free on host {host}.",
            mend="Free memory, or start fewer ranks on it.",
        )
    return chunk


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take, by the kernel's and the container's account."""
    free = 1 << 62
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) << 10
    group = root / "sys/fs/cgroup"
    limit, used = (_lines(group / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdigit():
        # Its page cache counts as used, though what is inactive of it is dropped when it is needed.
        stat = dict(line.split() for line in _lines(group / "memory.stat") if line)
        taken = int(used[0]) - int(stat.get("inactive_file", 0))
        free = min(free, max(0, int(limit[0]) - taken))
    return free


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().split("\n")
    except OSError:
        return []


class Segment:
    """Words, and for each rank of the host a ring of slots of one chunk each.

    Args:
        descriptor: Of the memory, from `create`; may be closed afterwards.
        ranks: On this host.
        chunk: Bytes of a slot.
    """

    def __init__(self, descriptor: int, ranks: int, chunk: int) -> None:
        import torch

        self.chunk = chunk
        self._stride = _rounded(chunk)
        self._first = _rounded(Words.size(ranks))
        memory = mmap.mmap(descriptor, self.size(ranks, chunk))
        self._memory = memoryview(memory)
        self._bytes = torch.frombuffer(self._memory, dtype=torch.uint8)
        self.words = self._memory[: Words.size(ranks)]

    @classmethod
    def size(cls, ranks: int, chunk: int) -> int:
        """Bytes in all."""
        return _rounded(Words.size(ranks)) + ranks * DEPTH * _rounded(chunk)

    @classmethod
    def create(cls, ranks: int, chunk: int) -> int:
        """A descriptor of new memory for so many ranks, full of zeros."""
        descriptor = os.memfd_create("ds-ring", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, cls.size(ranks, chunk))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def slot(self, rank: int, number: int) -> Tensor:
        """The bytes that a rank of this host has for a chunk: uint8, of the chunk's size."""
        start = self._first + (rank * DEPTH + number % DEPTH) * self._stride
        return self._bytes[start : start + self.chunk]


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
