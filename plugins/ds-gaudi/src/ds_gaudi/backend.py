"""The backend for Intel's Gaudi accelerators."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.components.backend import Backend, BackendInfo, MemoryFigures, Probe, TuneReport
from ds_core.hookspecs import hookimpl
from ds_gaudi import detect

if TYPE_CHECKING:
    import torch
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.components.porting import Porting
    from ds_core.session import Session

_BRIDGE = "habana_frameworks.torch"
_MENDS = {
    "no module named": "Install Intel Gaudi's PyTorch: docs.habana.ai, Installation.",
    "compile-time major/minor": "Install the PyTorch that the bridge was compiled for.",
    "lazy mode": "Unset PT_HPU_LAZY_MODE: stock PyTorch has eager mode alone.",
    "device acquire failed": "Another process holds the card: hl-smi lists it.",
    "synstatus": "See hl-smi: the card may be held by another process, or be in reset.",
}


class Gaudi(Backend):
    """Gaudi cards through Intel's PyTorch bridge, with HCCL between processes.

    Eager mode with torch.compile, unless PT_HPU_LAZY_MODE asks for the older lazy mode, in which
    each step is marked. A process has one card, which torch calls `hpu:0` in each of them.
    """

    name: ClassVar[str] = "gaudi"
    device_type: ClassVar[str] = "hpu"
    conformance: ClassVar[dict[str, Any]] = {
        "paths": (
            "sys/bus/pci/devices/0000:00:00.0/vendor",
            "sys/bus/pci/devices/0000:00:00.0/device",
            "sys/bus/pci/devices/0000:00:00.0/class",
            "sys/class/accel/accel0/device/vendor",
            "sys/class/accel/accel0/device/status",
            "sys/module/habanalabs/version",
            "dev/accel/accel0",
        )
    }

    _info: BackendInfo | None = None
    _active: bool = False

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Read the PCI bus, the accel class, device files and the driver's version."""
        return detect.probe(root)

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here."""
        from ds_gaudi.porting import porting

        return porting()

    def activate(self) -> None:
        """Import the bridge, in eager mode unless told otherwise, and compute something.

        Raises:
            BackendError: Says what the bridge said, and what to do about it.
        """
        if self._active:
            return
        # Before the bridge is imported, and for processes that this one starts.
        os.environ.setdefault("PT_HPU_LAZY_MODE", "0")
        try:
            import torch

            import_module(_BRIDGE)
            if self._module().device_count() == 0:
                raise RuntimeError("the bridge sees no card")
            float(torch.ones(1, device=self.device()) + 1)
        # The bridge asserts that versions fit; a missing library of its own is an OSError.
        except (ImportError, OSError, RuntimeError, AttributeError, AssertionError) as error:
            raise self.unusable(
                error,
                library="the bridge",
                card="Gaudi card",
                mends=_MENDS,
                ask="hl-smi",
            ) from error
        self._active = True

    def info(self) -> BackendInfo:
        """The card and its dtypes; activates it."""
        if self._info is None:
            self.activate()
            from ds_core.components.dtype_speed import measure
            from ds_gaudi.dtypes import architecture, overflow_gives_inf, settle

            device = self.device()
            name = str(self._module().get_device_name())
            arch = architecture(name)
            fp16 = bool(import_module(f"{_BRIDGE}.utils.experimental")._is_fp16_supported())
            measured = measure("hpu", 0, {"name": name, "arch": arch})
            inf = fp16 and overflow_gives_inf(device)
            self._info = BackendInfo(
                device=str(device),
                name=name,
                arch=arch,
                dtypes=settle(measured, arch, fp16=fp16, inf=inf),
            )
        return self._info

    def device(self) -> torch.device:
        """`hpu:0`: which card that is, the bridge decides by the local rank."""
        import torch

        return torch.device("hpu", 0)

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer, skipped: str | None) -> None:
        """Have the card compute what lazy mode has gathered; nothing in eager mode."""
        self._mark_step()

    def _mark_step(self) -> None:
        if import_module(f"{_BRIDGE}.utils.internal").is_lazy():
            import_module(f"{_BRIDGE}.core").mark_step()

    def synchronize(self) -> None:
        """Wait until the card has done all that it was given, gathered work included."""
        self._mark_step()
        super().synchronize()

    def memory(self) -> MemoryFigures:
        """Memory in use now and at its peak, of what the bridge has taken from the card."""
        stats = self._module().memory_stats()
        total, used = stats.get("Limit"), stats.get("InUse")
        known = total is not None and used is not None
        return MemoryFigures(
            allocated=used,
            peak=stats.get("MaxInUse"),
            free=max(total - used, 0) if known else None,
            total=total,
        )

    def distributed_backend(self) -> str | None:
        """HCCL."""
        import torch.distributed as dist

        return "hccl" if dist.is_available() else None

    def reduce_ops(self) -> frozenset[str]:
        """HCCL's; an average is a sum that is divided."""
        return frozenset({"sum", "product", "min", "max"})

    def compile_backend(self) -> str:
        """Intel's `hpu_backend`."""
        from torch._dynamo import list_backends

        known = list_backends(exclude_tags=None)
        return "hpu_backend" if "hpu_backend" in known else "aot_eager"

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Lay out convolutions as they run faster, and name matrices that the engine pads."""
        self.activate()
        from ds_gaudi.tuning import tune

        return TuneReport(changes=tune(self, model, example_inputs))
