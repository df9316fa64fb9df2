"""The backend that is always there."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.builtin import host_memory
from ds_core.components import host_files
from ds_core.components.backend import (
    Backend,
    BackendInfo,
    Device,
    MemoryFigures,
    Probe,
    Problem,
    TuneReport,
)
from ds_core.components.torch_version import torch_build

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.porting import Porting

_DTYPE_FLAGS = (
    *("avx_ne_convert", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
    *("fphp", "asimdhp", "bf16", "svebf16", "sme"),
)


class Cpu(Backend):
    """The host's processor, with gloo between processes."""

    name: ClassVar[str] = "cpu"
    rank: ClassVar[int] = 0
    device_type: ClassVar[str] = "cpu"

    _info: BackendInfo | None = None

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Read name, dtype instructions and memory from `/proc`, `/sys` or the platform."""
        build = torch_build()
        missing = Problem(what="PyTorch is not installed.", mend="pip install torch")
        return Probe(
            present=True,
            devices=(_device(root),),
            software={"torch": build.version} if build else {},
            problems=() if build else (missing,),
        )

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here."""
        from ds_core.builtin.cpu_porting import porting

        return porting()

    def activate(self) -> None:
        """A CPU needs nothing."""

    def info(self) -> BackendInfo:
        """Name, dtype instructions and measured dtypes."""
        if self._info is None:
            from ds_core.components.dtype_speed import measure

            device = _device("/")
            dtypes = measure("cpu", key={"name": device.name, "arch": device.arch})
            self._info = BackendInfo(
                device="cpu", name=device.name, arch=device.arch, dtypes=dtypes
            )
        return self._info

    def memory(self) -> MemoryFigures:
        """The whole process's memory. Its peak covers all its life where it cannot be reset."""
        now, peak = host_memory.resident()
        return MemoryFigures(
            allocated=now, peak=peak, free=host_memory.available(), total=host_memory.total()
        )

    def reset_peak_memory(self) -> None:
        """Possible on Linux, where `/proc/self/clear_refs` may be written."""
        host_memory.reset_peak()

    def distributed_backend(self) -> str | None:
        """Gloo, where torch is built with it."""
        import torch.distributed as dist

        return "gloo" if dist.is_available() and dist.is_gloo_available() else None

    def reduce_ops(self) -> frozenset[str]:
        """Gloo's; the bitwise ones are for integers."""
        return frozenset({"sum", "avg", "product", "min", "max", "band", "bor", "bxor"})

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Lay out convolutions as they run faster, `contiguous` or `channels_last`."""
        from ds_core.components.layout import choose_layout

        return TuneReport(changes=choose_layout(self, model, example_inputs))


def _device(root: str) -> Device:
    # The first processor's record; all are made as they are read, on servers hundreds of them.
    record = host_files.fields(host_files.read(root, "proc/cpuinfo", limit=8192))
    flags = set((record.get("flags") or record.get("Features") or "").split())
    machine = platform.machine() if root == "/" else _machine(record)
    name = record.get("model name") or record.get("cpu") or record.get("Hardware") or ""
    if not name and root == "/":
        name = os.environ.get("PROCESSOR_IDENTIFIER", "")  # Windows
    cores = _cores(root)
    return Device(
        index=0,
        name=(name or f"{machine} CPU".strip())
        + (f" ({cores} core{'s' if cores > 1 else ''})" if cores else ""),
        arch=" ".join([machine, *(flag for flag in _DTYPE_FLAGS if flag in flags)]).strip(),
        memory=host_memory.total(root),
    )


def _machine(record: dict[str, str]) -> str:
    if "lm" in record.get("flags", "").split():
        return "x86_64"
    return "aarch64" if "asimd" in record.get("Features", "").split() else ""


def _cores(root: str) -> int | None:
    """Processors that this process may run on; in another root, those that are online."""
    if root == "/":
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count()
    count = 0
    for part in host_files.read(root, "sys/devices/system/cpu/online").strip().split(","):
        first, _, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and len(first) < 6):
            return None
        end = last or first
        if not (end.isascii() and end.isdigit() and len(end) < 6):
            return None
        count += int(end) - int(first) + 1
    return count if count > 0 else None
