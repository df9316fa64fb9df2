"""What stands on the PCI bus, as `/sys/bus/pci/devices` lists it, under any root."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ds_core.components import host_files
from ds_core.components.backend import Problem

_DEVICES = "sys/bus/pci/devices"


class PciFunction(NamedTuple):
    """One function of a device; what could not be read is empty."""

    bus: str
    """As `0000:c1:00.0`."""
    device: str
    """The vendor's number for the model, as `0xd802`."""
    kind: str
    """The class, as `0x120000`."""
    driver: str
    """The kernel driver that holds it."""


def functions(root: str, vendor: str, classes: tuple[str, ...]) -> tuple[PciFunction, ...]:
    """The functions of a vendor, in the order of the bus.

    Args:
        root: The folder that stands for `/`.
        vendor: As sysfs writes it: `0x1002`.
        classes: What their class begins with, as `0x12` for processing accelerators.
    """
    found = []
    for bus in host_files.names(root, _DEVICES):
        place = f"{_DEVICES}/{bus}"
        if host_files.read(root, f"{place}/vendor", limit=16).strip() != vendor:
            continue
        kind = host_files.read(root, f"{place}/class", limit=16).strip()
        if kind.startswith(classes):
            device = " ".join(host_files.read(root, f"{place}/device", limit=16).split())
            found.append(PciFunction(bus, device, kind, _driver(root, place)))
    return tuple(found)


def held_for_guest(cards: Iterable[PciFunction], kind: str, driver: str) -> Problem | None:
    """What to say where a card was given to a virtual machine; None where none was.

    Args:
        cards: As `functions` found them.
        kind: What they are called, as in `AMD card`.
        driver: What they should be given back to, as in `the driver amdgpu`.
    """
    for card in cards:
        if card.driver.startswith("vfio"):
            return Problem(
                what=f"The {kind} is held by {card.driver}, for a virtual machine.",
                mend=f"Use it from that machine, or give it back to {driver}.",
            )
    return None


def _driver(root: str, place: str) -> str:
    try:
        link = Path(root, place, "driver").readlink()
    except (OSError, ValueError):
        return ""
    return link.name.encode(errors="replace").decode()
