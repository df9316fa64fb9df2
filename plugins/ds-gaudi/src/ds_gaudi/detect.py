"""What stands between a program and a Gaudi card: hardware, driver, torch and Intel's bridge."""

from __future__ import annotations

from collections.abc import Iterator

from ds_core.components.backend import Probe, Problem
from ds_gaudi import hardware, packages
from ds_gaudi.packages import release

_IMAGE = "vault.habana.ai/gaudi-docker (docs.habana.ai, Installation, has the current name)"


def probe(root: str = "/") -> Probe:
    """Look at everything, importing nothing of it."""
    found, software = hardware.find(root), packages.installed()
    devices = hardware.devices(found)
    problems: list[Problem] = []
    if found.present:
        problems += hardware.problems(root, found)
        if not devices:
            problems.append(
                Problem(
                    what="HABANA_VISIBLE_MODULES hides every card.",
                    mend="Unset it, or list modules by number, as in HABANA_VISIBLE_MODULES=0,1.",
                )
            )
        problems += _software(software, found.driver)
    elif software.bridge:
        problems.append(
            Problem(
                what=f"habana-torch-plugin {software.bridge} is installed, but there is no Gaudi "
                "card.",
                mend="Give this machine or container a card, or use another environment: with "
                "PT_HPU_AUTOLOAD=0 torch leaves the bridge out.",
            )
        )
    versions = {
        "torch": software.torch.version if software.torch else None,
        "habana-torch-plugin": software.bridge,
    }
    return Probe(
        present=found.present,
        devices=devices,
        driver=found.driver,
        software={name: version for name, version in versions.items() if version},
        problems=tuple(problems),
    )


def _software(software: packages.Packages, driver: str | None) -> Iterator[Problem]:
    build, bridge = software.torch, software.bridge
    if build is None or bridge is None:
        missing = "PyTorch is" if build is None else "Intel Gaudi's bridge, habana-torch-plugin, is"
        yield Problem(
            what=f"{missing} not installed.",
            mend="Install Intel Gaudi's PyTorch (habanalabs-installer.sh install -t pytorch), or "
            f"use its image {_IMAGE}.",
        )
        return
    needed = software.bridge_torch
    if needed and release(needed) != release(build.version):
        yield Problem(
            what=f"habana-torch-plugin {bridge} is compiled for PyTorch {needed}; this is "
            f"{build.version}.",
            mend="Install the PyTorch that came with the bridge, or the bridge for this one.",
        )
    # Builds of Intel's own name the commit: 2.6.0+git2f2f3a8.
    elif packages.lazy() and not build.version.partition("+")[2].startswith(("git", "hpu")):
        yield Problem(
            what=f"PT_HPU_LAZY_MODE asks for lazy mode, which stock PyTorch {build.version} "
            "does not have.",
            mend="Unset it: lazy mode is a legacy. Or install Intel Gaudi's own PyTorch.",
        )
    ours, theirs = release(bridge), release(driver or "")
    if ours and theirs and (ours[0] != theirs[0] or abs(ours[1] - theirs[1]) > 1):
        older = "driver" if theirs < ours else "bridge"
        yield Problem(
            what=f"habana-torch-plugin {bridge} and the driver {driver} are more than one "
            "release apart.",
            mend=f"Update the {older}: both come with one release of Intel Gaudi's software.",
        )
