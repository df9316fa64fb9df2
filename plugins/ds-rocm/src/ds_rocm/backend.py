"""The backend for AMD's cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from ds_core.components.backend import Backend, BackendInfo, Probe, TuneReport
from ds_core.components.component import Options
from ds_rocm import detect

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.porting import Porting

_MENDS = {
    "forked subprocess": "Start worker processes with the 'spawn' method.",
    "out of memory": "Free memory on the card: rocm-smi --showpids lists who holds it.",
    "invalid device function": "This PyTorch has no kernels for the card: install a build whose "
    "torch.cuda.get_arch_list() names it.",
    "no kernel image": "This PyTorch has no kernels for the card: install a build whose "
    "torch.cuda.get_arch_list() names it.",
    "no hip gpus": "Add the user to the groups render and video: rocminfo should list the card.",
    "driver": "Install or update amdgpu: rocminfo should list the card.",
}


class Rocm(Backend):
    """AMD cards through PyTorch's ROCm build, with RCCL between processes.

    torch calls them `cuda`, and RCCL `nccl`: code for NVIDIA's cards runs as it is.
    """

    name: ClassVar[str] = "rocm"
    device_type: ClassVar[str] = "cuda"
    conformance: ClassVar[dict[str, Any]] = {
        "paths": (
            "sys/class/kfd/kfd/topology/nodes/0/properties",
            "sys/class/kfd/kfd/topology/nodes/0/mem_banks/0/properties",
            "sys/bus/pci/devices/0000:00:00.0/vendor",
            "sys/bus/pci/devices/0000:00:00.0/device",
            "sys/bus/pci/devices/0000:00:00.0/class",
            "sys/module/amdgpu/version",
            "proc/sys/kernel/osrelease",
            "dev/kfd",
            "dev/dri/renderD128",
        )
    }

    class Config(Options):
        """How a model is tuned."""

        tunable_op: bool = pydantic.Field(default=False)
        """Whether tuning lets TunableOp try kernels for each matrix multiply, which takes minutes
        on large models."""

    _info: BackendInfo | None = None
    _active: bool = False

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Read KFD's topology, the PCI bus, device files and torch's version file."""
        return detect.probe(root)

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here."""
        from ds_rocm.porting import porting

        return porting()

    def activate(self) -> None:
        """Initialise HIP and compute something on this process's card.

        Raises:
            BackendError: Says what HIP said, and what to do about it.
        """
        if self._active:
            return
        try:
            import torch

            if torch.version.hip is None:
                raise RuntimeError("this PyTorch is not built for ROCm")
            module = self._module()
            module.init()
            if module.device_count() == 0:
                raise RuntimeError("HIP sees no card")
            float(torch.ones(1, device=self.device()) + 1)
        except (ImportError, OSError, RuntimeError, AssertionError) as error:
            raise self.unusable(
                error,
                library="HIP",
                card="AMD card",
                mends=_MENDS,
                ask="rocminfo",
            ) from error
        self._active = True

    def info(self) -> BackendInfo:
        """Name, architecture and dtypes of this process's card; activates it."""
        if self._info is None:
            self.activate()
            from ds_core.components.dtype_speed import measure
            from ds_rocm.archs import bare
            from ds_rocm.dtypes import measures_tf32, settle

            device = self.device()
            card = self._module().get_device_properties(device)
            arch = bare(card.gcnArchName)
            measured = measure(
                self.device_type,
                device.index,
                {"name": card.name, "arch": arch},
                tf32=measures_tf32(arch),
            )
            self._info = BackendInfo(
                device=str(device), name=card.name, arch=arch, dtypes=settle(measured, arch)
            )
        return self._info

    def distributed_backend(self) -> str | None:
        """RCCL, which torch calls `nccl`, or gloo where torch is built without it (Windows)."""
        import torch.distributed as dist

        if not dist.is_available():
            return None
        if dist.is_nccl_available():
            return "nccl"
        return "gloo" if dist.is_gloo_available() else None

    def compile_backend(self) -> str:
        """Inductor: torch's ROCm builds bring Triton for AMD's cards."""
        import importlib.util

        return "inductor" if importlib.util.find_spec("triton") else "aot_eager"

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Lay out convolutions as they run faster; with `tunable_op`, choose kernels, too."""
        self.activate()
        from ds_core.components.layout import choose_layout
        from ds_rocm.tuning import tune_products

        changes = choose_layout(self, model, example_inputs)
        if self.config.tunable_op:
            import torch

            changes += tune_products(self, model, example_inputs, torch.cuda.tunable)
        return TuneReport(changes=changes)
