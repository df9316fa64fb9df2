"""The backend on ds-core's simulated device: what can be proved without a Gaudi card.

    PYTEST_PLUGINS=ds_gaudi.simulated ds plugins check gaudi

torch computes on the CPU under the name `hpu`. A stand-in for Intel's bridge goes on the import
path, of this process and of those that it starts: it registers the device and has the few functions
that the backend calls. The probe reads a host that is written for it. This says nothing of the
bridge, of its compiler or of a card.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_core.components.torch_version import TorchBuild, torch_build
from ds_gaudi import detect, packages
from ds_gaudi.dtypes import WITH_FP16_AND_FP8, architecture

if TYPE_CHECKING:
    from ds_core.testing import Faults, SimulatedDevice

KEYS = {"limit": "Limit", "allocated": "InUse", "peak": "MaxInUse"}
"""What the bridge calls figures of memory."""

_RELEASE = "1.22.0"
HOST = {
    "sys/bus/pci/devices/0000:19:00.0/vendor": "0x1da3\n",
    "sys/bus/pci/devices/0000:19:00.0/device": "0x1020\n",
    "sys/bus/pci/devices/0000:19:00.0/class": "0x120000\n",
    "sys/class/accel/accel0/device/vendor": "0x1da3\n",
    "sys/class/accel/accel0/device/status": "operational\n",
    "sys/module/habanalabs/version": f"{_RELEASE}-2f1a\n",
    "dev/accel/accel0": "",
}
"""A machine with one Gaudi 2."""

_TORCH = "habana_frameworks/torch"
_MODULES = {
    "habana_frameworks/__init__.py": "",
    f"{_TORCH}/__init__.py": "from ds_gaudi.simulated import stand_in\n"
    "stand_in({card!r}, {host!r})\n",
    f"{_TORCH}/core.py": "marks = 0\n\ndef mark_step():\n    global marks\n    marks += 1\n",
    f"{_TORCH}/utils/__init__.py": "",
    f"{_TORCH}/utils/internal.py": "import os\n\ndef is_lazy():\n"
    "    return os.environ.get('PT_HPU_LAZY_MODE', '1') != '0'\n",
    f"{_TORCH}/utils/experimental.py": "def _is_fp16_supported():\n    return {fp16}\n",
}


def pytest_configure(config: Any) -> None:
    """Switch the simulation on where pytest loads this module as a plugin."""
    simulate()


def simulate(card: str = "GAUDI2", faults: Faults | None = None) -> SimulatedDevice:
    """Make this process's simulated device `hpu`, with a bridge that asks it.

    Args:
        card: What the card says that it is; the first Gaudi lacks float16 here, too.
        faults: What the device does wrong from the start, in this process.
    """
    made = tempfile.TemporaryDirectory(prefix="ds-gaudi-")
    atexit.register(made.cleanup)
    host, site = Path(made.name, "host"), Path(made.name, "site")
    build = torch_build()
    values = {
        "card": card,
        "host": str(host),
        "fp16": architecture(card) in WITH_FP16_AND_FP8,
    }
    metadata = f"Metadata-Version: 2.1\nName: habana-torch-plugin\nVersion: {_RELEASE}\n"
    _write(host, HOST)
    _write(site, {path: text.format_map(values) for path, text in _MODULES.items()})
    _write(
        site,
        {
            f"habana_torch_plugin-{_RELEASE}.dist-info/METADATA": metadata,
            f"{_TORCH}/required_version.txt": build.version if build else "",
        },
    )
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), before)))
    os.environ.setdefault("PT_HPU_LAZY_MODE", "0")
    sys.path.insert(0, str(site))
    device = _device(card, faults)
    import_module("habana_frameworks.torch")
    return device


def stand_in(card: str, host: str) -> None:
    """Have the device, which is registered where it is not yet, answer as the bridge would."""
    import torch
    from torch._dynamo import list_backends, lookup_backend, register_backend

    _device(card, None)
    hpu: Any = torch.get_device_module("hpu")
    hpu.get_device_name = lambda index=None: card
    if "hpu_backend" not in list_backends(exclude_tags=None):
        register_backend(lookup_backend("aot_eager"), name="hpu_backend")
    # Intel's own builds, which have lazy mode, too, name their commit so.
    owner: Any = packages
    build = TorchBuild(f"{torch.__version__.partition('+')[0]}+git0000000")
    owner.torch_build = lambda: build
    original = detect.probe
    detect.probe = lambda root="/": original(host if root == "/" else root)


def _device(card: str, faults: Faults | None) -> SimulatedDevice:
    from ds_core.testing import simulated_device

    fp16 = architecture(card) in WITH_FP16_AND_FP8
    return simulated_device(
        "hpu",
        collective="hccl",
        memory_keys=KEYS,
        autocast_dtypes=("bfloat16", "float16") if fp16 else ("bfloat16",),
        reduce_ops=("sum", "product", "min", "max"),
        faults=faults,
    )


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
