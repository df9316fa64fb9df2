"""Ascend cards, their driver and their device files, without torch or CANN."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ds_ascend.socs import FAMILIES
from ds_core.components import host_files, pci
from ds_core.components.backend import Device, Problem

_VENDOR, _CLASSES = "0x19e5", ("0x12",)
_CONTROL = ("davinci_manager", "devmm_svm", "hisi_hdc")
_DRIVER = "usr/local/Ascend/driver/version.info"
_VERSION = re.compile(r"^\s*version\s*=\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_FILE = re.compile(r"davinci(\d{1,3})")
_RUN = "start it with --device /dev/davinci0 " + " ".join(f"--device /dev/{n}" for n in _CONTROL)
_CONTAINER = f"In a container, {_RUN} -v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro"


class Hardware(NamedTuple):
    """What a machine has."""

    cards: tuple[pci.PciFunction, ...]
    files: tuple[int, ...]
    """The numbers of `/dev/davinci*`: what this machine or container may compute on."""
    driver: str | None

    @property
    def present(self) -> bool:
        return bool(self.cards or self.files)


def find(root: str = "/") -> Hardware:
    """Look for cards, driver and device files."""
    cards = pci.functions(root, _VENDOR, _CLASSES)
    names = (_FILE.fullmatch(name) for name in host_files.names(root, "dev"))
    files = sorted(int(match[1]) for match in names if match)
    match = _VERSION.search(host_files.read(root, _DRIVER, limit=4096))
    return Hardware(cards, tuple(files), match[1] if match else None)


def devices(found: Hardware) -> tuple[Device, ...]:
    """The NPUs in torch's order, of those that `ASCEND_RT_VISIBLE_DEVICES` shows."""
    families = {FAMILIES.get(card.device, ("", f"Ascend {card.device}")) for card in found.cards}
    # Which card is behind which device file only the driver knows: told where all are alike.
    arch, name = families.pop() if len(families) == 1 else ("", "Ascend NPU")
    count = len(found.files) or len(found.cards)
    return tuple(
        Device(index=index, name=name, arch=arch)
        for index in range(len(visible(count, os.environ.get("ASCEND_RT_VISIBLE_DEVICES"))))
    )


def visible(count: int, setting: str | None) -> tuple[int, ...]:
    """The NPUs that CANN shows of `count`; its list ends at the first entry that is none."""
    if setting is None:
        return tuple(range(count))
    shown: list[int] = []
    for entry in (part.strip() for part in setting.split(",")):
        if not re.fullmatch(r"\d{1,3}", entry) or int(entry) >= count or int(entry) in shown:
            break
        shown.append(int(entry))
    return tuple(shown)


def problems(root: str, found: Hardware) -> Iterator[Problem]:
    """What keeps programs from the NPUs of a machine that has some."""
    missing = [name for name in _CONTROL if not host_files.exists(root, f"dev/{name}")]
    if not found.files:
        missing.insert(0, "davinci0")
    if not found.files and found.driver is None and len(missing) > len(_CONTROL):
        yield _no_driver(root, found)
        return
    if missing:
        yield Problem(
            what=f"The device files {_listed(missing)} are missing."
            if len(missing) > 1
            else f"The device file {_listed(missing)} is missing.",
            mend=f"{_CONTAINER}; on the host, npu-smi info should list the card.",
        )
    names = [f"davinci{number}" for number in found.files]
    names += [name for name in _CONTROL if name not in missing]
    if closed := host_files.closed(root, names):
        yield Problem(
            what=f"This user may not open {_listed(closed)}.",
            mend="Add the user to the group that owns them: "
            "sudo usermod -aG HwHiAiUser $USER, then log in again.",
        )


def _no_driver(root: str, found: Hardware) -> Problem:
    if held := pci.held_for_guest(found.cards, "Ascend card", "Huawei's driver"):
        return held
    if host_files.in_container(root):
        return Problem(what="This container has no device files of the NPU.", mend=f"{_CONTAINER}.")
    return Problem(
        what="There is an Ascend card, but Huawei's driver is not installed.",
        mend="Install the driver and firmware (hiascend.com, Firmware and Drivers) and reboot; "
        f"npu-smi info should then list the card. {_CONTAINER}.",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"/dev/{name}" for name in names)
