"""Where a job's ranks are, and whether hosts are set alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ds_nccl_ring.doctor.finding import Finding, note, ok, problem
from ds_nccl_ring.placement import Placement

_MAY_DIFFER = {"NCCL_HOSTID", "NCCL_CONF_FILE", "NCCL_DEBUG_FILE", "NCCL_TOPO_FILE"}


def check_placement(placement: Placement) -> list[Finding]:
    """What is proved of hosts against what the launcher says of them."""
    hosts = len(placement.hosts)
    told = f"{placement.size} ranks on {hosts} host{'s' if hosts > 1 else ''}"
    found = []
    for what in placement.notes:
        if "LOCAL_WORLD_SIZE" in what:
            mend = "See how the launcher was started, or set DS_NODE on each host."
            found.append(problem("placement", f"{what}.", mend))
        elif "interleaved" in what:
            mend = "Flat rings of other backends cross uplinks at every step: number host by host."
            found.append(problem("placement", f"{what}.", mend))
        else:
            found.append(note("placement", f"{what}."))
    return [ok("placement", f"{told}, proved by {placement.proof}."), *found]


def check_alike(hosts: Sequence[str], settings: Sequence[Mapping[str, str]]) -> list[Finding]:
    """Whether NCCL's settings are the same on all hosts.

    Args:
        hosts: Their names.
        settings: Of each.
    """
    found = []
    for name in sorted({name for one in settings for name in one} - _MAY_DIFFER):
        values = {host: one.get(name, "unset") for host, one in zip(hosts, settings, strict=True)}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{value} on {host}" for host, value in values.items())
            what = f"Hosts differ in {name}: {told}."
            found.append(problem("settings", what, "Set the same everywhere."))
    return found
