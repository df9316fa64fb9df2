"""What stands between a program and an Ascend NPU: hardware, driver, CANN, torch and torch_npu."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ds_ascend import cann, hardware, packages
from ds_core.components import host_files, pci
from ds_core.components.backend import Probe, Problem
from ds_core.components.torch_version import TorchBuild

_SOURCE = "source /usr/local/Ascend/ascend-toolkit/set_env.sh"
_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD=0"


def probe(root: str = "/") -> Probe:
    """Look at everything, importing nothing of it."""
    found, software = hardware.find(root), packages.installed()
    toolkit = cann.find(root)
    problems: list[Problem] = []
    devices = hardware.devices(found)
    if found.present:
        problems += hardware.problems(root, found)
        if not devices:
            problems.append(
                Problem(
                    what="ASCEND_RT_VISIBLE_DEVICES hides every NPU.",
                    mend="Unset it, or list NPUs by number, as in ASCEND_RT_VISIBLE_DEVICES=0.",
                )
            )
        problems += _software(software, toolkit, root)
    elif software.torch_npu:
        problems += _without_card(software, toolkit)
    versions = software.software | ({"cann": toolkit.version} if toolkit else {})
    return Probe(
        present=found.present,
        devices=devices,
        driver=found.driver,
        software={name: version for name, version in versions.items() if version},
        problems=tuple(problems),
    )


def _without_card(software: packages.Packages, toolkit: cann.Cann | None) -> Iterator[Problem]:
    yield Problem(
        what=f"torch-npu {software.torch_npu} is installed, but there is no Ascend card.",
        mend="Uninstall it (pip uninstall torch-npu), or give this machine or container a card.",
    )
    if toolkit is None:
        yield _no_toolkit(software)


def _software(
    software: packages.Packages, toolkit: cann.Cann | None, root: str
) -> Iterator[Problem]:
    build, extension = software.torch, software.torch_npu
    if build is None:
        yield Problem(what="PyTorch is not installed.", mend="pip install torch torch-npu")
    elif extension is None:
        version = _release(build.version)
        yield Problem(
            what=f"PyTorch {build.version} is installed, but torch-npu is not.",
            mend=f"pip install torch-npu=={version}",
        )
    elif _release(build.version) != _release(extension):
        yield Problem(
            what=f"torch-npu {extension} is for PyTorch {_release(extension)}; this is "
            f"{build.version}.",
            mend=f"pip install torch=={_release(extension)}, or the torch-npu for this PyTorch.",
        )
    elif rival := _rival(build, root):
        yield Problem(
            what=f"PyTorch {build.version} uses this machine's {rival} card: torch-npu refuses a "
            "second kind of accelerator.",
            mend=f"pip install torch=={_release(build.version)} "
            "--index-url https://download.pytorch.org/whl/cpu",
        )
    if toolkit is None:
        yield _no_toolkit(software)
    elif not toolkit.announced:
        yield Problem(
            what=f"CANN is in {toolkit.path}, but its environment is not set.",
            mend=f"source {toolkit.path}/set_env.sh, or the set_env.sh one folder above.",
        )
    else:
        needed = cann.RELEASED_WITH.get(extension.split("+")[0]) if extension else None
        if needed and cann.older(toolkit.version, needed):
            yield Problem(
                what=f"torch-npu {extension} is released with CANN {needed}; this is "
                f"{toolkit.version}.",
                mend=f"Install CANN {needed} or newer, or an older torch-npu.",
            )


def _rival(build: TorchBuild, root: str) -> str:
    """Whose card a torch built for CUDA or ROCm would take; empty where there is none."""
    if build.cuda and pci.functions(root, "0x10de", ("0x03",)):
        return "NVIDIA"
    return "AMD" if build.hip and host_files.exists(root, "dev/kfd") else ""


def _no_toolkit(software: packages.Packages) -> Problem:
    if software.torch_npu:
        return Problem(
            what="CANN is not installed, so that `import torch` fails: it loads torch-npu.",
            mend=f"Install CANN and {_SOURCE}; until then set {_AUTOLOAD}.",
        )
    return Problem(what="CANN is not installed.", mend=f"Install CANN, then {_SOURCE}.")


def _release(version: str) -> str:
    """The release that a version belongs to: 2.9.0 of `2.9.0.post2` and `2.9.0+cpu`."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return match[0] if match else version
