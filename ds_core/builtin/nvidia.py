"""Finding NVIDIA's cards, their driver and what stands in the way, without torch or CUDA."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ds_core.components import host_files
from ds_core.components.backend import Device, Problem
from ds_core.components.torch_version import TorchBuild

_VENDOR = "0x10de"
_DISPLAY = "0x03"  # PCI base class: VGA, 3D and other display controllers
_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")
_DRIVER_FOR_CUDA = {12: 525, 13: 580}
"""Least driver branch for each CUDA release family that torch is built for.

NVIDIA, CUDA Compatibility, "Minor Version Compatibility",
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html.
"""
_WHEELS = {12: "cu126", 13: "cu130"}
_CONTAINER = "In a container, start it with --gpus all (NVIDIA Container Toolkit)"


class Card(NamedTuple):
    """One card; what could not be read is empty or None."""

    name: str
    uuid: str = ""
    memory: int | None = None
    arch: str = ""
    bound_to: str = ""
    """The kernel driver that holds it, where it is not NVIDIA's."""


class Found(NamedTuple):
    """What a machine has."""

    cards: tuple[Card, ...]
    driver: str | None
    problems: tuple[Problem, ...]


def find(root: str = "/") -> Found:
    """Look for cards in PCI order, their driver, and what keeps a program from using them."""
    driver = _driver(root)
    on_windows = root == "/" and sys.platform == "win32"
    through_windows = host_files.exists(root, "dev/dxg")  # the Windows Subsystem for Linux
    answer = None
    if root == "/" and (driver or on_windows or through_windows):
        from ds_core.builtin import nvml  # ctypes takes milliseconds to import

        answer = nvml.report()
    if answer and answer.cards:
        cards = [Card(card.name, card.uuid, card.memory, card.arch) for card in answer.cards]
        driver = driver or answer.driver
    else:
        cards = list(_from_driver(root)) or list(_from_pci(root)) or list(_from_device_files(root))
    managed_elsewhere = on_windows or through_windows
    problems = () if managed_elsewhere or not cards else tuple(_problems(root, cards, driver))
    return Found(tuple(cards), driver, problems)


def visible(cards: tuple[Card, ...], setting: str | None) -> tuple[Card, ...]:
    """The cards that CUDA would show under a value of `CUDA_VISIBLE_DEVICES`, in its order.

    As in the CUDA C++ Programming Guide, "CUDA Environment Variables": the list ends at its first
    invalid entry. A slice of a card (MIG) is shown without memory, which only CUDA knows.
    """
    if setting is None:
        return cards
    shown: list[Card] = []
    for entry in (part.strip() for part in setting.split(",")):
        index = host_files.number(entry) or (0 if entry == "0" else None)
        if index is not None and index < len(cards):
            shown.append(cards[index])
        elif entry.startswith("MIG-"):
            shown.append(Card("NVIDIA MIG slice", uuid=entry))
        elif entry.startswith("GPU-"):
            matches = [card for card in cards if card.uuid.startswith(entry)]
            if len(matches) != 1 and any(card.uuid for card in cards):
                break
            shown.append(matches[0] if matches else Card("NVIDIA GPU", uuid=entry))
        else:
            break
    return tuple(shown)


def devices(cards: tuple[Card, ...]) -> tuple[Device, ...]:
    """The cards as a backend reports them, numbered as torch would."""
    return tuple(
        Device(index=index, name=card.name, arch=card.arch, memory=card.memory)
        for index, card in enumerate(cards)
    )


def build_problem(build: TorchBuild | None, driver: str | None, root: str = "/") -> Problem | None:
    """Why this torch cannot use an NVIDIA card with this driver; None where nothing is known."""
    branch = host_files.number(driver.partition(".")[0]) if driver else None
    if build is None:
        return Problem(
            what="PyTorch is not installed.", mend=f"Install a CUDA build: {_pip(branch)}"
        )
    if build.hip is not None:
        return Problem(
            what=f"PyTorch {build.version} is built for AMD's ROCm.",
            mend="For an AMD card: pip install ds-rocm, then choose the backend 'rocm'. "
            f"For an NVIDIA card: {_pip(branch)}",
        )
    if build.cuda is None:
        return Problem(
            what=f"PyTorch {build.version} is built without CUDA.",
            mend=f"Install a CUDA build: {_pip(branch)}",
        )
    needed = _DRIVER_FOR_CUDA.get(host_files.number(build.cuda.partition(".")[0]) or 0)
    # NVIDIA's compatibility package lets newer CUDA run on older data-centre drivers.
    compatible = host_files.exists(root, "usr/local/cuda/compat/libcuda.so.1")
    if branch is not None and needed is not None and branch < needed and not compatible:
        return Problem(
            what=f"PyTorch {build.version} is built for CUDA {build.cuda}, which needs NVIDIA's "
            f"driver {needed} or newer; this machine has {driver}.",
            mend=f"Update the driver, or install an older CUDA build: {_pip(branch)}",
        )
    return None


def _pip(branch: int | None) -> str:
    """The pip command for the newest CUDA family that a driver branch runs."""
    families = [cuda for cuda, least in _DRIVER_FOR_CUDA.items() if (branch or 10**9) >= least]
    if not families:
        return f"first update NVIDIA's driver to {min(_DRIVER_FOR_CUDA.values())} or newer."
    wheels = f"https://download.pytorch.org/whl/{_WHEELS[max(families)]}"
    return (
        f"pip install --force-reinstall torch --index-url {wheels} "
        "(https://pytorch.org/get-started/locally lists the current indexes)."
    )


def _driver(root: str) -> str | None:
    match = _VERSION.search(host_files.read(root, "proc/driver/nvidia/version"))
    if match:
        return match[1]
    version = host_files.read(root, "sys/module/nvidia/version").strip()
    return version if re.fullmatch(r"\d+(\.\d+)+", version) else None


def _from_driver(root: str) -> Iterator[Card]:
    for bus in host_files.names(root, "proc/driver/nvidia/gpus"):
        text = host_files.read(root, f"proc/driver/nvidia/gpus/{bus}/information")
        record = host_files.fields(text)
        if record.get("GPU Excluded") != "Yes":
            yield Card(record.get("Model") or "NVIDIA GPU", record.get("GPU UUID", ""))


def _from_pci(root: str) -> Iterator[Card]:
    base = "sys/bus/pci/devices"
    for bus in host_files.names(root, base):
        if host_files.read(root, f"{base}/{bus}/vendor").strip() != _VENDOR:
            continue
        if not host_files.read(root, f"{base}/{bus}/class").startswith(_DISPLAY):
            continue
        model = " ".join(host_files.read(root, f"{base}/{bus}/device").split())
        try:
            link = Path(root, base, bus, "driver").readlink()
            holder = link.name.encode(errors="replace").decode()
        except (OSError, ValueError):
            holder = ""
        yield Card(f"NVIDIA GPU {model}".strip(), bound_to=holder if holder != "nvidia" else "")


def _from_device_files(root: str) -> Iterator[Card]:
    for _ in _device_files(root):
        yield Card("NVIDIA GPU")


def _device_files(root: str) -> list[str]:
    return [name for name in host_files.names(root, "dev") if re.fullmatch(r"nvidia\d+", name)]


def _problems(root: str, cards: list[Card], driver: str | None) -> Iterator[Problem]:
    files = _device_files(root)
    if driver is None and not files:
        holder = next((card.bound_to for card in cards if card.bound_to), "")
        held = f"; {holder} holds it" if holder else ""
        yield Problem(
            what=f"{cards[0].name} has no NVIDIA driver loaded{held}.",
            mend="Install NVIDIA's driver and reboot; nvidia-smi should then list the card.",
        )
        return
    control = ["nvidiactl", "nvidia-uvm"]
    missing = [name for name in control if not host_files.exists(root, f"dev/{name}")]
    if not files:
        missing.insert(0, "nvidia0")
    # Where it is installed, CUDA has it make the files when a program first needs them.
    if missing and not host_files.exists(root, "usr/bin/nvidia-modprobe"):
        listed = ", ".join(f"/dev/{name}" for name in missing)
        plural = "is" if len(missing) == 1 else "are"
        yield Problem(
            what=f"NVIDIA's driver is loaded, but {listed} {plural} missing.",
            mend=f"{_CONTAINER}; on the host, run nvidia-modprobe -u -c=0.",
        )
    closed = [
        name
        for name in files + [name for name in control if name not in missing]
        if not os.access(Path(root, "dev", name), os.R_OK | os.W_OK)
    ]
    if closed:
        yield Problem(
            what=f"This user may not open {', '.join(f'/dev/{name}' for name in closed)}.",
            mend="Add the user to the group that owns the file (ls -l /dev/nvidia*), "
            "or ask the administrator for access.",
        )
