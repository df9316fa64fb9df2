"""RDMA ports as sysfs shows them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ds_nccl_ring.doctor.system import names, read

INFINIBAND = "sys/class/infiniband"


@dataclass(frozen=True)
class Gid:
    """An entry of a port's table of addresses."""

    index: int
    address: ipaddress.IPv6Address
    roce: int
    """The version of RoCE, 1 or 2; 0 where it is unknown."""

    @property
    def routable(self) -> bool:
        """Whether packets to it leave their subnet."""
        return self.roce == 2 and not self.address.is_link_local

    @property
    def family(self) -> str:
        """The version of IP that it stands for."""
        return "IPv6" if self.address.ipv4_mapped is None else "IPv4"

    def __str__(self) -> str:
        shown = self.address.ipv4_mapped or self.address
        return f"{shown} of RoCE v{self.roce}"


@dataclass(frozen=True)
class Port:
    """A port of a device."""

    device: str
    number: int
    ethernet: bool
    active: bool
    gids: tuple[Gid, ...]

    def __str__(self) -> str:
        return f"{self.device} port {self.number}"

    def gid(self, index: int) -> Gid | None:
        """The entry at an index; None where it is empty."""
        return next((gid for gid in self.gids if gid.index == index), None)


def ports(root: Path, settings: Mapping[str, str]) -> list[Port]:
    """Those that NCCL may use, by NCCL_IB_HCA."""
    found = []
    for device in names(root / INFINIBAND):
        for number in names(root / INFINIBAND / device / "ports"):
            folder = root / INFINIBAND / device / "ports" / number
            if number.isdigit() and _meant(settings.get("NCCL_IB_HCA", ""), device, number):
                found.append(
                    Port(
                        device,
                        int(number),
                        read(folder / "link_layer") == "Ethernet",
                        (read(folder / "state") or "").endswith("ACTIVE"),
                        _gids(folder),
                    )
                )
    return found


def _gids(folder: Path) -> tuple[Gid, ...]:
    found = []
    for name in sorted((name for name in names(folder / "gids") if name.isdigit()), key=int):
        text, kind = read(folder / "gids" / name), read(folder / "gid_attrs" / "types" / name)
        try:
            address = ipaddress.IPv6Address(text or "::")
        except ValueError:
            continue
        if kind is None or not int(address):
            continue  # an empty entry
        roce = 2 if kind.endswith("v2") else 1 if kind.endswith("v1") else 0
        found.append(Gid(int(name), address, roce))
    return tuple(found)


def _meant(pattern: str, device: str, number: str) -> bool:
    """Whether a value of NCCL_IB_HCA, made like NCCL_SOCKET_IFNAME, means a port."""
    if not pattern:
        return True
    without = pattern.startswith("^")
    exact = pattern.lstrip("^").startswith("=")
    for item in pattern.lstrip("^=").split(","):
        name, _, port = item.partition(":")
        same = device == name if exact else device.startswith(name)
        if same and port in ("", number):
            return not without
    return without
