"""How little has to cross an uplink, and how long that takes at least."""

from __future__ import annotations

import re

from ds_core.errors import ConfigError

WIRE_SHARE = {"float32": 1.0, "bfloat16": 0.5, "int8": (256 + 4) / 1024}
"""Bytes that travel for each byte of float32; int8 has a float32 scale for each 256 numbers."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def uplink_bytes(nbytes: float, hosts: int, wire: str = "float32") -> float:
    """Bytes that each host sends, and receives, at least to all-reduce float32 between hosts.

    Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009.
    """
    return 2 * (hosts - 1) / hosts * nbytes * WIRE_SHARE[wire]


def lower_bound(nbytes: float, hosts: int, rate: float, wire: str = "float32") -> float:
    """Seconds that `uplink_bytes` take at `rate` bytes a second."""
    return uplink_bytes(nbytes, hosts, wire) / rate


def bus_factor(ranks: int) -> float:
    """What nccl-tests multiply an all-reduce's bandwidth by, so that ranks do not matter."""
    return 2 * (ranks - 1) / ranks


def parse_size(text: str) -> int:
    """Bytes, of a size such as `64KiB`, `25MiB`, `16M` or `4096`.

    Raises:
        ConfigError: It is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]?)i?b?", text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not size:
        raise ConfigError(f"{text!r} is no size.", mend="Write it as 64KiB or 25MiB.")
    return size
