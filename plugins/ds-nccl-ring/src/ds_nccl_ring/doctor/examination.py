"""All checks, on this host or on all hosts of a job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ds_nccl_ring.doctor import interfaces, limits, memory, ranks, roce, settings
from ds_nccl_ring.doctor.finding import Finding
from ds_nccl_ring.show import Place, meet, under_torchrun

Check = Callable[[Path, Mapping[str, str]], list[Finding]]

CHECKS: tuple[Check, ...] = (
    interfaces.check_links,
    interfaces.check_named,
    interfaces.check_rendezvous,
    roce.check_ports,
    roce.check_addresses,
    roce.check_traffic_class,
    roce.check_rails,
    settings.check_retransmission,
    settings.check_leftovers,
    memory.check_shared_memory,
    limits.check_open_files,
    limits.check_locked_memory,
    limits.check_socket_buffers,
)
"""What is looked at on each host, in the order of printing."""


def examine_host(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ
) -> list[Finding]:
    """Run all checks on one host."""
    return [finding for check in CHECKS for finding in check(root, environment)]


def examine(*, timeout: float) -> list[Finding]:
    """Run all checks here; under torchrun on every host, which rank 0 tells of.

    Raises:
        RefusedError: Ranks did not arrive, or their placement cannot be proved.
    """
    if not under_torchrun():
        return examine_host()
    return examine_job(meet(timeout), timeout=timeout)


def examine_job(place: Place, *, timeout: float) -> list[Finding]:
    """Run all checks on every host of a job; ranks but the first get nothing to tell."""
    from ds_nccl_ring.placement import prove
    from ds_nccl_ring.roll_call import roll_call

    placement = prove(place.store, place.rank, place.size, timeout=timeout)
    first = placement.host_of(place.rank).ranks[0] == place.rank
    said = {
        "findings": [finding.model_dump() for finding in examine_host()] if first else [],
        "settings": settings.nccl_settings(Path("/"), os.environ),
    }
    heard = roll_call(place.store, "doctor", place.rank, place.size, said, timeout=timeout)
    if place.rank:
        return []
    leaders = [heard[host.ranks[0]] for host in placement.hosts]
    names = [host.name for host in placement.hosts]
    found = [
        Finding(**{**finding, "subject": f"{name}, {finding['subject']}"})
        for name, leader in zip(names, leaders, strict=True)
        for finding in leader["findings"]
    ]
    alike = ranks.check_alike(names, [leader["settings"] for leader in leaders])
    return [*ranks.check_placement(placement), *alike, *found]
