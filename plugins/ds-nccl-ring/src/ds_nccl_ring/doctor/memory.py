"""Memory that ranks of one host share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ds_nccl_ring.doctor.finding import Finding, ok, problem

_ENOUGH = 256 << 20
"""Bytes: NCCL takes some for each pair of GPUs, and a data loader's batches go through it."""

Usage = Callable[[Path], tuple[int, int]]
"""Bytes of a file system: all, and those that are free."""


def usage(path: Path) -> tuple[int, int]:
    """By the kernel."""
    told = os.statvfs(path)
    return told.f_frsize * told.f_blocks, told.f_frsize * told.f_bavail


def check_shared_memory(
    root: Path, environment: Mapping[str, str], usage: Usage = usage
) -> list[Finding]:
    """Whether /dev/shm is there, and holds what NCCL and data loaders put in it."""
    from ds_core.cli.output import size

    try:
        every, free = usage(root / "dev/shm")
    except OSError:
        what = "There is no /dev/shm, by which ranks find out that they are on one host."
        return [problem("/dev/shm", what, "Mount a tmpfs there, or set DS_NODE.")]
    told = f"/dev/shm has {size(every)}, of which {size(free)} are free"
    if free < _ENOUGH:
        what = f"{told}; NCCL and data loaders crash when it is full."
        return [problem("/dev/shm", what, "Start the container with --shm-size=1g.")]
    return [ok("/dev/shm", f"{told}.")]
