"""The backend on ds-core's simulated device: what can be proved without an AMD card.

    PYTEST_PLUGINS=ds_rocm.simulated ds plugins check rocm

No simulated device can be called `cuda`, so the backend's `device_type` is replaced by `amd`, and
torch is told that it is built for HIP, in this process and in those that it starts; the probe reads
a host that is written for it. This says nothing of HIP, of AMD's libraries or of a card, nor of
code that says `cuda` itself.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ds_core.components.torch_version import TorchBuild
from ds_rocm import detect
from ds_rocm.backend import Rocm

if TYPE_CHECKING:
    from ds_core.testing import Faults, SimulatedDevice

ARCH = "gfx942:sramecc+:xnack-"
"""What torch calls an MI300X."""

_HIP = "7.0.51831"
_NODE = "sys/class/kfd/kfd/topology/nodes"
HOST = {
    f"{_NODE}/0/properties": "cpu_cores_count 64\nsimd_count 0\n",
    f"{_NODE}/1/properties": "cpu_cores_count 0\nsimd_count 1216\ngfx_target_version 90402\n"
    "drm_render_minor 128\n",
    f"{_NODE}/1/mem_banks/0/properties": "heap_type 1\nsize_in_bytes 206141652992\n",
    "dev/kfd": "",
    "dev/dri/renderD128": "",
    "sys/module/amdgpu/version": "6.16.6\n",
}
"""A machine with one MI300X."""


# torch loads what is registered so when it is imported: in each process that this one starts.
_AUTOLOAD = {
    "METADATA": "Metadata-Version: 2.1\nName: ds-rocm-simulated\nVersion: 0\n",
    "entry_points.txt": "[torch.backends]\nds_rocm_simulated = ds_rocm.simulated:autoload\n",
}


def pytest_configure(config: Any) -> None:
    """Switch the simulation on where pytest loads this module as a plugin."""
    simulate()


def autoload() -> None:
    """Switch the simulation on in a process that was started by a simulated one."""
    _use(_device())


def simulate(arch: str = ARCH, faults: Faults | None = None) -> SimulatedDevice:
    """Make this process's simulated device `amd`, and have the backend use it.

    Args:
        arch: What the card says that it is, in this process.
        faults: What the device does wrong from the start, in this process.
    """
    import torch  # noqa: F401  # before the entry point is there, which it would load here, too

    made = tempfile.TemporaryDirectory(prefix="ds-rocm-")
    atexit.register(made.cleanup)
    site = Path(made.name, "site")
    _write(site / "ds_rocm_simulated-0.dist-info", _AUTOLOAD)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), before)))
    sys.path.append(str(site))  # a process that is spawned gets this one's path
    device = _device(faults)
    _use(device, arch)
    return device


def _device(faults: Faults | None = None) -> SimulatedDevice:
    from ds_core.testing import simulated_device

    return simulated_device("amd", collective="rccl", faults=faults)


def _use(device: SimulatedDevice, arch: str = ARCH) -> None:
    import torch
    import torch.distributed as dist

    module: Any = torch.get_device_module("amd")
    properties = SimpleNamespace(
        name=device.full_name, total_memory=device.memory.limit, gcnArchName=arch
    )
    module.get_device_properties = lambda index=None: properties
    torch.version.hip = _HIP
    backend: Any = Rocm
    backend.device_type = "amd"
    backend.distributed_backend = lambda self: "rccl" if dist.is_available() else None
    host = tempfile.TemporaryDirectory(prefix="ds-rocm-")
    atexit.register(host.cleanup)
    _write(Path(host.name), HOST)
    owner: Any = detect
    original = detect.probe
    detect.probe = lambda root="/": original(host.name if root == "/" else root)
    owner.torch_build = lambda: TorchBuild("2.13.0+rocm7.0", hip=_HIP)


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
