"""Gaudi cards, their driver and their device files, without torch or Intel's libraries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ds_core.components import host_files, pci
from ds_core.components.backend import Device, Problem

_VENDOR, _CLASSES = "0x1da3", ("0x12",)
MODELS = {
    **dict.fromkeys(("0x1000", "0x1010", "0x1001", "0x1011"), ("gaudi", "Gaudi")),
    **dict.fromkeys(("0x1020", "0x1021"), ("gaudi2", "Gaudi 2")),
    **dict.fromkeys(("0x1060", "0x1062", "0x1063"), ("gaudi3", "Gaudi 3")),
}
"""Architecture and name by PCI number, as Intel's kernel driver and its HCL library list them."""

_FILE, _OLD_FILE = re.compile(r"accel(\d{1,3})"), re.compile(r"hl(\d{1,3})")
_CONTAINER = "in a container, start it with --runtime=habana -e HABANA_VISIBLE_DEVICES=all"


class Hardware(NamedTuple):
    """What a machine has."""

    cards: tuple[pci.PciFunction, ...]
    files: tuple[str, ...]
    """Device files from `/dev`: `accel/accel0`, or `hl0` with drivers before 1.13."""
    driver: str | None

    @property
    def present(self) -> bool:
        return bool(self.cards or self.files)


def find(root: str = "/") -> Hardware:
    """Look for cards, driver and device files."""
    cards = pci.functions(root, _VENDOR, _CLASSES)
    version = host_files.read(root, "sys/module/habanalabs/version", limit=256).strip()
    driver = version if re.fullmatch(r"\d+(\.\d+)+\S*", version) else None
    return Hardware(cards, tuple(_files(root, bool(cards))), driver)


def _files(root: str, has_cards: bool) -> Iterator[str]:
    for name in host_files.names(root, "dev/accel"):
        if _FILE.fullmatch(name):
            # The NPU of a notebook's processor has such files, too.
            place = f"sys/class/accel/{name}/device/vendor"
            vendor = host_files.read(root, place, limit=16).strip()
            if vendor == _VENDOR or (not vendor and has_cards):
                yield f"accel/{name}"
    yield from (name for name in host_files.names(root, "dev") if _OLD_FILE.fullmatch(name))


def devices(found: Hardware) -> tuple[Device, ...]:
    """The cards that a program may use; which of them a process takes Intel's bridge decides."""
    models = {MODELS.get(card.device, ("", f"Gaudi {card.device}")) for card in found.cards}
    arch, name = models.pop() if len(models) == 1 else ("", "Gaudi")
    count = len(found.files) or len(found.cards)
    setting = os.environ.get("HABANA_VISIBLE_MODULES")
    if setting is not None:
        count = min(count, len({part for part in setting.split(",") if part.strip().isdigit()}))
    return tuple(Device(index=index, name=name, arch=arch) for index in range(count))


def problems(root: str, found: Hardware) -> Iterator[Problem]:
    """What keeps programs from the cards of a machine that has some."""
    if not found.files:
        yield _without_files(root, found)
        return
    if closed := host_files.closed(root, found.files):
        yield Problem(
            what=f"This user may not open {', '.join(f'/dev/{name}' for name in closed)}.",
            mend="Add the user to the group that owns them (ls -l /dev/accel), or ask the "
            "administrator for a udev rule that opens them.",
        )
    for name in found.files:
        place = f"sys/class/accel/{Path(name).name}/device/status"
        status = " ".join(host_files.read(root, place, limit=64).split())
        if status and status.lower() != "operational":
            yield Problem(
                what=f"/dev/{name} is not operational: its status is {status!r}.",
                mend="Wait where it is being reset; else see hl-smi and dmesg, and reset it.",
            )


def _without_files(root: str, found: Hardware) -> Problem:
    if held := pci.held_for_guest(found.cards, "Gaudi card", "the driver habanalabs"):
        return held
    loaded = found.driver or any(card.driver.startswith("habana") for card in found.cards)
    if loaded or host_files.in_container(root):
        return Problem(
            what="There is a Gaudi card, but its device files in /dev/accel are missing.",
            mend=f"{_CONTAINER[0].upper()}{_CONTAINER[1:]}; on the host, hl-smi should list it.",
        )
    return Problem(
        what="There is a Gaudi card, but the driver habanalabs is not loaded.",
        mend="Install habanalabs-dkms (docs.habana.ai, Installation) and load it: "
        f"sudo modprobe habanalabs; {_CONTAINER}.",
    )
