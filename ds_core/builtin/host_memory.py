"""Main memory as this process may use it: what the machine has, limited by control groups."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ds_core.components import host_files


def total(root: str = "/") -> int | None:
    """Bytes that can be used at most; None where that cannot be told.

    The least of the machine's memory and the limits of the process's control groups, versions 1
    and 2 (Linux, Documentation/admin-guide/cgroup-v2.rst), from its own group upwards.
    """
    machine = _meminfo(root).get("MemTotal") or (_sysconf_total() if root == "/" else None)
    if machine is None:
        return None
    return min([machine, *(limit for limit, _ in _limits(root))])


def available(root: str = "/") -> int | None:
    """Bytes that could be allocated now without swapping; None where that cannot be told."""
    machine = _meminfo(root).get("MemAvailable")
    if machine is None:
        return None
    return min([machine, *(max(limit - used, 0) for limit, used in _limits(root))])


def resident() -> tuple[int | None, int | None]:
    """Bytes of main memory that this process holds now, and at its peak."""
    status = host_files.fields(host_files.read("/", "proc/self/status"))
    now, peak = (host_files.number(status.get(key, "")) for key in ("VmRSS", "VmHWM"))
    if now is not None:
        return now * 1024, peak * 1024 if peak is not None else None
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    unit = 1 if sys.platform == "darwin" else 1024
    return None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Let the peak of `resident` start again, where the kernel permits it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _meminfo(root: str) -> dict[str, int]:
    lines = host_files.fields(host_files.read(root, "proc/meminfo"))
    kibibytes = {key: host_files.number(value) for key, value in lines.items()}
    return {key: value * 1024 for key, value in kibibytes.items() if value is not None}


def _sysconf_total() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # AttributeError: Windows
        return None


def _limits(root: str) -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each control group that this process is in."""
    for line in host_files.read(root, "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if "memory" in controllers.split(","):
            base, files = "sys/fs/cgroup/memory", _V1
        elif hierarchy == "0" and not controllers:
            base, files = "sys/fs/cgroup", _V2
        else:
            continue
        # A container may see its group as the root of the tree: the parents cover that.
        parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
        for depth in range(min(len(parts), 32), -1, -1):
            folder = "/".join([base, *parts[:depth]])
            limit = host_files.number(host_files.read(root, f"{folder}/{files[0]}"))
            if limit is not None:
                used = host_files.number(host_files.read(root, f"{folder}/{files[1]}")) or 0
                yield limit, used - _reclaimable(root, folder, files[2])


_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def _reclaimable(root: str, folder: str, key: str) -> int:
    """Bytes of cached files that count as used and are given back on demand."""
    for line in host_files.read(root, f"{folder}/memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return host_files.number(value) or 0
    return 0
