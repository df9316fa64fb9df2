"""What stands between a program and an AMD card: driver, device files and torch's build."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ds_core.components import host_files, pci
from ds_core.components.backend import Device, Probe, Problem
from ds_core.components.torch_version import TorchBuild, torch_build
from ds_rocm import archs, topology
from ds_rocm.topology import Card

_VENDOR, _ACCELERATOR, _DISPLAY = "0x1002", ("0x12",), ("0x03",)
_CONTAINER = (
    "In a container, start it with --device /dev/kfd --device /dev/dri --group-add video "
    "--group-add render"
)
_PIP = (
    "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/rocm7.0 "
    "(https://pytorch.org/get-started/locally lists the current indexes)."
)


def probe(root: str = "/") -> Probe:
    """Look at everything, importing nothing of it."""
    found, build = topology.cards(root), torch_build()
    driver = _driver(root)
    problems: list[Problem] = []
    unseen = () if found else _unseen(root)
    shown = topology.visible(found)
    if found:
        problems += _device_files(root, found)
        if not shown:
            name = topology.hidden_by(found)
            problems.append(
                Problem(
                    what=f"{name}={os.environ[name]!r} hides every card.",
                    mend=f"Unset it, or list cards by number, as in {name}=0.",
                )
            )
    elif unseen:
        problems.append(_not_driven(root, unseen))
    if found or unseen:
        problems += _build(build, [card.arch for card in shown])
    elif build is not None and build.hip:
        problems.append(
            Problem(
                what=f"PyTorch {build.version} is built for ROCm, but there is no AMD card.",
                mend="Give this machine or container a card, or install another build of torch.",
            )
        )
    devices = shown if found else tuple(Card("") for _ in unseen)
    software = {"torch": build.version} if build else {}
    if build and build.hip:
        software["hip"] = build.hip
    return Probe(
        present=bool(found or unseen),
        devices=tuple(
            Device(index=index, name=archs.name(card.arch), arch=card.arch, memory=card.memory)
            for index, card in enumerate(devices)
        ),
        driver=driver,
        software=software,
        problems=tuple(problems),
    )


def _driver(root: str) -> str | None:
    version = host_files.read(root, "sys/module/amdgpu/version", limit=256).strip()
    if re.fullmatch(r"\d+(\.\d+)+\S*", version):
        return version
    # The kernel's own module has no version but its kernel's.
    loaded = host_files.exists(root, "sys/module/amdgpu")
    kernel = host_files.read(root, "proc/sys/kernel/osrelease", limit=256).strip()
    return f"amdgpu of Linux {kernel}" if loaded and kernel else None


def _unseen(root: str) -> tuple[pci.PciFunction, ...]:
    """Cards on the bus that no driver for computing has listed."""
    accelerators = pci.functions(root, _VENDOR, _ACCELERATOR)
    if accelerators:
        return accelerators
    # Graphics inside a processor are display controllers, too: where amdgpu drives one and lists
    # nothing to compute on, there is no card.
    displays = pci.functions(root, _VENDOR, _DISPLAY)
    return tuple(one for one in displays if one.driver != "amdgpu")


def _not_driven(root: str, cards: tuple[pci.PciFunction, ...]) -> Problem:
    if held := pci.held_for_guest(cards, "AMD card", "the driver amdgpu"):
        return held
    if any(card.driver == "amdgpu" for card in cards):
        return Problem(
            what="The driver amdgpu is loaded, but lists no card to compute on.",
            mend=f"{_CONTAINER}; on the host, rocminfo should list the card: see dmesg.",
        )
    holder = next((f"; {card.driver} holds it" for card in cards if card.driver), "")
    return Problem(
        what=f"There is an AMD card, but its driver amdgpu is not loaded{holder}.",
        mend="Install it (amdgpu-install --usecase=dkms, or a kernel with amdgpu) and reboot; "
        "rocminfo should then list the card.",
    )


def _device_files(root: str, cards: tuple[Card, ...]) -> Iterator[Problem]:
    wanted = ["kfd", *(f"dri/{card.render}" for card in cards if card.render)]
    there = [name for name in wanted if host_files.exists(root, f"dev/{name}")]
    renders = [name for name in there if name.startswith("dri/")]
    # A container may be given some of the cards: those that it is not given are not its trouble.
    missing = [name for name in wanted[:1] if name not in there]
    missing += wanted[1:] if not renders else []
    if missing:
        listed = ", ".join(f"/dev/{name}" for name in missing)
        yield Problem(
            what=f"{listed} {'is' if len(missing) == 1 else 'are'} missing.",
            mend=f"{_CONTAINER}; on the host, load the driver: modprobe amdgpu.",
        )
    if closed := host_files.closed(root, there):
        yield Problem(
            what=f"This user may not open {', '.join(f'/dev/{name}' for name in closed)}.",
            mend="sudo usermod -aG render,video $USER, then log in again; in a container, "
            "--group-add with the number of the host's group render.",
        )


def _build(build: TorchBuild | None, names: list[str]) -> Iterator[Problem]:
    if build is None:
        yield Problem(what="PyTorch is not installed.", mend=f"Install a ROCm build: {_PIP}")
        return
    if build.hip is None:
        kind = f"for CUDA {build.cuda}" if build.cuda else "for processors alone"
        yield Problem(
            what=f"PyTorch {build.version} is built {kind}.", mend=f"Install a ROCm build: {_PIP}"
        )
        return
    version = tuple(int(part) for part in re.findall(r"\d+", build.hip)[:2])
    for arch in dict.fromkeys(names):
        needed = archs.SINCE.get(arch)
        if needed and version and version < needed:
            yield Problem(
                what=f"PyTorch {build.version} is built for ROCm {build.hip}; {arch} needs "
                f"{needed[0]}.{needed[1]} or newer.",
                mend=f"Install a newer build: {_PIP}",
            )
        elif arch and arch not in archs.WHEELS:
            yield Problem(
                what=f"PyTorch's ROCm wheels have no kernels for {arch}.",
                mend="Build torch with PYTORCH_ROCM_ARCH, or try a related architecture, as "
                "HSA_OVERRIDE_GFX_VERSION=10.3.0 for gfx103x; choose the backend 'cpu' otherwise.",
            )
