"""The backend on ds-core's simulated device: what can be proved without an Ascend card.

    PYTEST_PLUGINS=ds_ascend.simulated ds plugins check ascend

torch computes on the CPU under the name `npu`. A stand-in for torch_npu goes on the import path, of
this process and of those that it starts: it registers the device and has the few functions that the
backend calls. The probe reads a host that is written for it. This says nothing of torch_npu, of
CANN or of a chip.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import weakref
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ds_ascend import detect
from ds_ascend.socs import has_bf16
from ds_core.components.torch_version import torch_build

if TYPE_CHECKING:
    from torch import Tensor

    from ds_core.testing import Faults, SimulatedDevice

_CANN = "usr/local/Ascend/cann"
HOST = {
    "sys/bus/pci/devices/0000:c1:00.0/vendor": "0x19e5\n",
    "sys/bus/pci/devices/0000:c1:00.0/device": "0xd802\n",
    "sys/bus/pci/devices/0000:c1:00.0/class": "0x120000\n",
    **{f"dev/{name}": "" for name in ("davinci0", "davinci_manager", "devmm_svm", "hisi_hdc")},
    "usr/local/Ascend/driver/version.info": "Version=25.5.1\n",
    f"{_CANN}/aarch64-linux/ascend_toolkit_install.info": "version=9.1.0\n",
}
"""A machine with one card."""

_MODULE = """
from ds_ascend.simulated import stand_in
globals().update(stand_in({soc!r}, {host!r}))
"""
_ND = 2  # CANN's number of the plain format


def pytest_configure(config: Any) -> None:
    """Switch the simulation on where pytest loads this module as a plugin."""
    simulate()


def simulate(soc: str = "Ascend910B3", faults: Faults | None = None) -> SimulatedDevice:
    """Make this process's simulated device `npu`, with a torch_npu that asks it.

    Args:
        soc: What the chip says that it is; those without bfloat16 lack it here, too.
        faults: What the device does wrong from the start, in this process.
    """
    made = tempfile.TemporaryDirectory(prefix="ds-ascend-")
    atexit.register(made.cleanup)
    folder = Path(made.name)
    host, site = folder / "host", folder / "site"
    build = torch_build()
    release = build.version.partition("+")[0] if build else "0"
    metadata = f"Metadata-Version: 2.1\nName: torch-npu\nVersion: {release}\n"
    _write(host, HOST)
    _write(
        site,
        {
            "torch_npu/__init__.py": _MODULE.format(soc=soc, host=str(host)),
            f"torch_npu-{release}.dist-info/METADATA": metadata,
        },
    )
    os.environ["ASCEND_HOME_PATH"] = f"/{_CANN}"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), before)))
    sys.path.insert(0, str(site))
    device = _device(soc, faults)
    import_module("torch_npu")
    return device


def stand_in(soc: str, host: str) -> dict[str, Any]:
    """What the stand-in for torch_npu holds; registers the device where it is not yet."""
    import torch

    device = _device(soc, None)
    npu: Any = torch.get_device_module("npu")
    npu.get_device_name = lambda index=None: soc
    npu.is_bf16_supported = lambda including_emulation=False: bool(has_bf16(soc))
    npu.utils = SimpleNamespace(
        is_support_inf_nan=lambda: not device.faults.saturating_fp16,
        get_npu_overflow_flag=npu.overflow_flag,
        clear_npu_overflow_flag=npu.clear_overflow_flag,
    )
    original = detect.probe
    detect.probe = lambda root="/": original(host if root == "/" else root)
    formats = _Formats()
    return {"npu": npu, "npu_format_cast": formats.cast, "get_npu_format": formats.of}


def _device(soc: str, faults: Faults | None) -> SimulatedDevice:
    from ds_core.testing import simulated_device

    dtypes = ("bfloat16", "float16") if has_bf16(soc) else ("float16",)
    return simulated_device("npu", collective="hccl", autocast_dtypes=dtypes, faults=faults)


class _Formats:
    """Which format each tensor was cast to."""

    def __init__(self) -> None:
        self._known = weakref.WeakKeyDictionary[Any, int]()

    def cast(self, tensor: Tensor, number: int) -> Tensor:
        made = tensor.clone()
        self._known[made.untyped_storage()] = number
        return made

    def of(self, tensor: Tensor) -> int:
        return self._known.get(tensor.untyped_storage(), _ND)


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
