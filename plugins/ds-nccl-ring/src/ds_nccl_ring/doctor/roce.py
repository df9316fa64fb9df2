"""RoCE: the address that each port sends from, and the traffic class of what it sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ds_nccl_ring.doctor.finding import Finding, note, ok, problem
from ds_nccl_ring.doctor.ports import INFINIBAND, Port, ports
from ds_nccl_ring.doctor.settings import nccl_settings
from ds_nccl_ring.doctor.system import read

_SUBJECT = "RoCE addresses"


def check_ports(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether RDMA ports are there and active."""
    said = nccl_settings(root, environment)
    found = ports(root, said)
    if not found:
        if "NCCL_IB_HCA" in said:
            what = f"NCCL_IB_HCA={said['NCCL_IB_HCA']} means no RDMA port of this host."
            return [problem("RDMA ports", what, "Name ports that exist, or unset it.")]
        return [ok("RDMA ports", "There are none; NCCL would use TCP.")]
    idle = [str(port) for port in found if not port.active]
    if len(idle) == len(found):
        what = f"None of {len(found)} RDMA ports is active."
        return [problem("RDMA ports", what, "Look at cables, switches and drivers: ibstat.")]
    if idle:
        what = f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} not active."
        return [note("RDMA ports", what, "Look at cables and switches if they should be.")]
    return [ok("RDMA ports", f"{len(found)} are active.")]


def check_addresses(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether each RoCE port sends from an address that is routable, and alike on all ports."""
    said = nccl_settings(root, environment)
    active = _roce(root, said)
    if not active:
        return []
    found = []
    if said.get("NCCL_IB_ROCE_VERSION_NUM", "2") != "2":
        what = "NCCL_IB_ROCE_VERSION_NUM=1 looks for RoCE v1, which no router forwards."
        found.append(problem(_SUBJECT, what, "Unset it; NCCL takes 2."))
    index = said.get("NCCL_IB_GID_INDEX", "-1")
    if not index.lstrip("-").isdigit():
        what = f"NCCL_IB_GID_INDEX={index} is no number."
        return [*found, problem(_SUBJECT, what, _advice(active))]
    if int(index) >= 0:
        return [*found, *_fixed(active, int(index))]
    # Since NCCL 2.21 an index is chosen by itself: a routable one of IPv4 first.
    lacking = [str(port) for port in active if not any(gid.routable for gid in port.gids)]
    if lacking:
        what = f"{', '.join(lacking)} {_has(lacking)} no routable address of RoCE v2."
        mend = "Give its network interface an IP address."
        return [*found, problem(_SUBJECT, what, mend)]
    families = {
        "IPv4" if any(gid.routable and gid.family == "IPv4" for gid in port.gids) else "IPv6"
        for port in active
    }
    if len(families) > 1:
        what = "Some ports have addresses of IPv6 only, others of IPv4."
        return [*found, problem(_SUBJECT, what, "Give all ports addresses of one kind.")]
    what = "Every port has a routable address of RoCE v2, which NCCL from 2.21 finds by itself."
    return [*found, ok(_SUBJECT, what)]


def check_traffic_class(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """The traffic class that RoCE packets carry, where switches keep one class lossless."""
    said = nccl_settings(root, environment)
    active = _roce(root, said)
    if not active:
        return []
    subject = "traffic class"
    text = said.get("NCCL_IB_TC")
    if text is not None and not (text.isdigit() and int(text) < 256):
        what = f"NCCL_IB_TC={text} is none of 0 to 255."
        return [problem(subject, what, "Set four times a DSCP.")]
    forced = {port.device: _forced(root, port.device) for port in active}
    found = []
    if len(set(forced.values())) > 1:
        told = ", ".join(f"{device} {_told(value)}" for device, value in forced.items())
        what = f"Devices force different traffic classes: {told}."
        found.append(problem(subject, what, "Write the same to tc/1/traffic_class of all."))
    values = {value for value in forced.values() if value is not None}
    if text is None and not values:
        what = "RoCE packets carry traffic class 0, which switches seldom keep lossless."
        mend = "If yours use priority flow control, set NCCL_IB_TC to four times its DSCP."
        found.append(note(subject, what, mend))
    elif text is not None and values - {int(text)}:
        what = f"NCCL_IB_TC={text} is overruled by the {max(values)} that devices force."
        found.append(problem(subject, what, "Make them equal, or unset NCCL_IB_TC."))
    elif not found:
        value = int(text) if text is not None else max(values)
        what = f"RoCE packets carry traffic class {value}, DSCP {value >> 2}."
        mend = "See that switches and `mlnx_qos` have priority flow control on for it."
        found.append(note(subject, what, mend))
    return found


def check_rails(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """NCCL_CROSS_NIC where ports are in networks of their own, as on rails."""
    said = nccl_settings(root, environment)
    active = _roce(root, said)
    # A mask is not told, so that networks are taken to be of 256 addresses.
    networks = {
        str(gid.address.ipv4_mapped).rpartition(".")[0]
        for port in active
        for gid in port.gids
        if gid.routable and gid.address.ipv4_mapped
    }
    value = said.get("NCCL_CROSS_NIC")
    if value is not None and value not in ("0", "1", "2"):
        what = f"NCCL_CROSS_NIC={value} is none of 0, 1 and 2."
        return [problem("NCCL_CROSS_NIC", what, "Unset it; NCCL takes 2.")]
    if len(active) < 2 or len(networks) < len(active):
        return []
    if value == "0":
        return [ok("NCCL_CROSS_NIC", "Ports are in networks of their own, and rings keep to one.")]
    what = f"Each of {len(active)} ports is in a network of its own, as on rails"
    if value == "1":
        mend = "Set it to 0 where rails are not connected."
        return [problem("NCCL_CROSS_NIC", f"{what}, and NCCL_CROSS_NIC=1 crosses them.", mend)]
    mend = "Set it to 0 where rails are not connected; NCCL's 2 crosses them if that looks better."
    return [note("NCCL_CROSS_NIC", f"{what}.", mend)]


def _roce(root: Path, said: Mapping[str, str]) -> list[Port]:
    return [port for port in ports(root, said) if port.ethernet and port.active]


def _fixed(active: Sequence[Port], index: int) -> list[Finding]:
    name = f"NCCL_IB_GID_INDEX={index}"
    gids = {port: port.gid(index) for port in active}
    if empty := [str(port) for port, gid in gids.items() if gid is None]:
        what = f"{name} is empty on {', '.join(empty)}."
        return [problem(_SUBJECT, what, _advice(active))]
    for port, gid in gids.items():
        assert gid is not None
        if not gid.routable:
            why = "no router forwards RoCE v1" if gid.roce < 2 else "it is link-local"
            what = f"{name} of {port} is {gid}: {why}."
            return [problem(_SUBJECT, what, _advice(active))]
    if len({gid.family for gid in gids.values() if gid}) > 1:
        what = f"{name} is an address of IPv4 on some ports and of IPv6 on others."
        return [problem(_SUBJECT, what, _advice(active))]
    return [ok(_SUBJECT, f"{name} is a routable address of RoCE v2 on every port.")]


def _advice(active: Sequence[Port]) -> str:
    shared = [
        gid.index
        for gid in active[0].gids
        if gid.routable
        and gid.family == "IPv4"
        and all(
            (other := port.gid(gid.index)) and other.routable and other.family == "IPv4"
            for port in active
        )
    ]
    advice = "Unset it, and NCCL from 2.21 chooses"
    return f"{advice}; or set {shared[0]}, if other hosts are alike." if shared else f"{advice}."


def _forced(root: Path, device: str) -> int | None:
    text = read(root / INFINIBAND / device / "tc" / "1" / "traffic_class") or ""
    digits = text.rpartition("=")[2].strip()
    return int(digits) if digits.isdigit() else None


def _told(value: int | None) -> str:
    return "none" if value is None else str(value)


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
