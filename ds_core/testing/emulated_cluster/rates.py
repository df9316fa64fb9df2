"""The rate of a wire, and how fast an all-reduce over such wires can be."""

from __future__ import annotations

import re

from ds_core.errors import ConfigError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def bits_per_second(rate: str | int) -> int:
    """A rate as a number: `"200mbit"`, `"1gbit"` or a number of bits a second.

    Raises:
        ConfigError: The rate is not positive or cannot be read.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]?)(?:bit)?", str(rate).strip().lower())
    bits = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if bits <= 0:
        raise ConfigError(
            f"rate {rate!r} is no bandwidth.",
            mend="Give bits a second as a number, or a text such as '200mbit' or '1gbit'.",
        )
    return bits


def lower_bound(size: int, rate: str | int, nodes: int) -> float:
    """Seconds that an all-reduce between hosts takes at least, by bandwidth alone.

    Each host must send, and receive, 2(N-1)/N of the buffer over its uplink, however the reduction
    is ordered (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations", 2009). Headers and latency come on top.

    Args:
        size: Bytes of the reduced buffer, in the format that travels.
        rate: Of each uplink, as `EmulatedCluster` takes it.
        nodes: Hosts, not ranks: what stays inside a host does not cross a wire.

    Raises:
        ConfigError: The rate cannot be read, or there is no host.
    """
    if nodes < 1:
        raise ConfigError(f"{nodes} hosts are none.", mend="Give at least one host.")
    return 2 * (nodes - 1) / nodes * size * 8 / bits_per_second(rate)
