"""Limits of the kernel that many connections, or fast ones, come up against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ds_nccl_ring.doctor.finding import Finding, ok, problem
from ds_nccl_ring.doctor.interfaces import NET, usual
from ds_nccl_ring.doctor.system import names, number, read

_ROUND_TRIP = 5e-4
"""Seconds between hosts of a busy cluster."""
_OWN_FILES = 256
"""What a training has open besides its ranks' connections."""


def check_open_files(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether a rank may open a connection to every other one, in a few groups."""
    limit = _limit(root, "Max open files")
    if limit is None:
        return []
    ranks = environment.get("WORLD_SIZE", "")
    needed = _OWN_FILES + 4 * int(ranks) if ranks.isdigit() else 1024
    if limit < needed:
        what = f"A process may open {_told(limit)} files, and {needed} are wanted."
        return [problem("open files", what, f"Run: ulimit -n {max(needed, 65536)}.")]
    return [ok("open files", f"A process may open {_told(limit)} files.")]


def check_locked_memory(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether RDMA may pin memory."""
    limit = _limit(root, "Max locked memory")
    if limit is None or not names(root / "sys/class/infiniband"):
        return []
    if limit < float("inf"):
        what = f"A process may lock {limit:.0f} bytes, and RDMA pins all that it sends."
        return [problem("locked memory", what, "Run: ulimit -l unlimited.")]
    return [ok("locked memory", "A process may lock as much as it wants.")]


def check_socket_buffers(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether a TCP connection may have as much under way as the fastest interface carries."""
    speeds = [number(root / NET / name / "speed") or 0 for name in usual(root)]
    fastest = max([speed for speed in speeds if speed > 0], default=1000)
    wanted = int(fastest * 1e6 / 8 * _ROUND_TRIP)
    found = []
    for name in ("tcp_rmem", "tcp_wmem"):
        sizes = (read(root / "proc/sys/net/ipv4" / name) or "").split()
        if len(sizes) == 3 and int(sizes[2]) < wanted:
            what = f"net.ipv4.{name} ends at {sizes[2]} bytes; {fastest} Mbit/s want {wanted}."
            mend = f'Run: sysctl -w net.ipv4.{name}="{sizes[0]} {sizes[1]} {2 * wanted}".'
            found.append(problem("TCP buffers", what, mend))
    return found or [ok("TCP buffers", f"They are large enough for {fastest} Mbit/s.")]


def _limit(root: Path, name: str) -> float | None:
    found = re.search(rf"^{name} +(\S+)", read(root / "proc/self/limits") or "", re.M)
    if found is None:
        return None
    return float("inf") if found[1] == "unlimited" else float(found[1])


def _told(limit: float) -> str:
    return "any number of" if limit == float("inf") else f"{limit:.0f}"
