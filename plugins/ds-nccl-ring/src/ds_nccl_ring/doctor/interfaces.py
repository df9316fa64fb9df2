"""IP interfaces: which of them carry the job, and whether they can."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from ds_nccl_ring.addresses import is_loopback
from ds_nccl_ring.doctor.finding import Finding, note, ok, problem
from ds_nccl_ring.doctor.settings import nccl_settings
from ds_nccl_ring.doctor.system import bond_master, names, number, read

NET = "sys/class/net"
_UP = ("up", "unknown")
_FAST = 10_000
_STANDARD_MTU = 1500


def matching(pattern: str, present: list[str]) -> list[str]:
    """The interfaces that a value of NCCL_SOCKET_IFNAME means.

    Prefixes with commas between them; `=` before the first asks for whole names, `^` before it for
    the interfaces that are not meant.
    """
    without = pattern.startswith("^")
    exact = pattern.removeprefix("^").startswith("=")
    wanted = [item for item in pattern.lstrip("^=").split(",") if item]

    def meant(name: str) -> bool:
        return any(name == one if exact else name.startswith(one) for one in wanted)

    return [name for name in present if meant(name) != without]


def usual(root: Path) -> list[str]:
    """Interfaces that are up, neither loopback nor a container bridge, nor part of a bond."""
    return [
        name
        for name in names(root / NET)
        if name != "lo"
        and not name.startswith(("docker", "veth", "virbr", "br-", "cni", "flannel", "cali"))
        and not bond_master(root / NET / name)
        and _is_up(root, name)
    ]


def check_named(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether the interfaces that variables name exist, and are no loopback."""
    said = dict(environment) | nccl_settings(root, environment)
    present = names(root / NET)
    found = []
    for variable in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        value = said.get(variable)
        if not value:
            continue
        gloo = variable.startswith("GLOO")
        meant = (
            [name for name in value.split(",") if name in present]
            if gloo
            else matching(value, present)
        )
        absent = [name for name in value.split(",") if gloo and name not in present]
        if absent or not meant:
            found.append(
                problem(
                    variable,
                    f"{variable}={value} names no interface of this host, which has "
                    f"{', '.join(present) or 'none'}.",
                    "Name one of these, or unset it.",
                )
            )
        elif set(meant) == {"lo"}:
            found.append(
                problem(
                    variable,
                    f"{variable}={value} is the loopback, which reaches no other host.",
                    f"Name {' or '.join(usual(root)) or 'another interface'}.",
                )
            )
        elif down := [name for name in meant if not _is_up(root, name)]:
            found.append(
                problem(
                    variable,
                    f"{variable}={value} means {', '.join(down)}, which is down.",
                    f"Name {' or '.join(usual(root)) or 'another interface'}.",
                )
            )
        else:
            found.append(ok(variable, f"{variable}={value} means {', '.join(meant)}."))
    return found


def check_links(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """State, MTU and speed of the interfaces that would be used."""
    said = nccl_settings(root, environment)
    pattern = said.get("NCCL_SOCKET_IFNAME")
    used = [name for name in usual(root) if not pattern or name in matching(pattern, [name])]
    if pattern and not used:
        return []  # told by `check_named`
    if not used:
        what = "No interface but the loopback is up, so that this host reaches no other."
        return [note("interfaces", what)]
    found = []
    for name in used:
        mtu, speed = number(root / NET / name / "mtu"), number(root / NET / name / "speed")
        known = speed if speed is not None and speed > 0 else None
        told = f"{name} is up, MTU {mtu}, " + (f"{known} Mbit/s." if known else "speed unknown.")
        if known and known >= _FAST and mtu is not None and mtu <= _STANDARD_MTU:
            mend = "Set 9000 on all hosts and switches, if these allow it."
            found.append(note("interfaces", told, mend))
        else:
            found.append(ok("interfaces", told))
    for what, unit in (("mtu", "bytes"), ("speed", "Mbit/s")):
        shown = (number(root / NET / name / what) for name in used)
        values = {value for value in shown if value is not None and value > 0}
        if len(values) > 1:
            told = " and ".join(map(str, sorted(values)))
            what = f"The interfaces differ in {what}: {told} {unit}."
            found.append(note("interfaces", what, "Name the ones to use in NCCL_SOCKET_IFNAME."))
    return found


def check_rendezvous(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether ranks on other hosts would be sent to this host's own loopback."""
    master = environment.get("MASTER_ADDR", "")
    ranks, local = environment.get("WORLD_SIZE", ""), environment.get("LOCAL_WORLD_SIZE", "")
    if not master or not ranks or ranks == local:
        return []
    try:
        address = str(socket.getaddrinfo(master, None)[0][4][0])
    except OSError:
        what = f"MASTER_ADDR={master} has no address."
        return [problem("MASTER_ADDR", what, "Give an address or a name that all hosts know.")]
    if is_loopback(address):
        what = f"MASTER_ADDR={master} is a loopback address, and ranks are on several hosts."
        return [problem("MASTER_ADDR", what, "Give an address of the first host.")]
    return [ok("MASTER_ADDR", f"MASTER_ADDR={master} is {address}.")]


def _is_up(root: Path, name: str) -> bool:
    return read(root / NET / name / "operstate") in _UP
