"""The backend for Huawei's Ascend NPUs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from ds_ascend import detect
from ds_core.components.backend import Backend, BackendInfo, Probe, TuneReport

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.porting import Porting

_MENDS = {
    "libhccl.so": "Run `source set_env.sh` of CANN, which sets where its libraries are.",
    "libascend": "Run `source set_env.sh` of CANN, which sets where its libraries are.",
    "backend extension": "torch-npu cannot be loaded: run `source set_env.sh` of CANN, or set "
    "TORCH_DEVICE_BACKEND_AUTOLOAD=0 to see the rest of torch at work.",
    "unsupported soc version": "This torch-npu does not know the chip: install a newer release, "
    "with the PyTorch and CANN that it needs.",
    "two accelerators": "Install a CPU build of PyTorch beside torch-npu.",
    "forked subprocess": "Start worker processes with the 'spawn' method.",
    "out of memory": "Free memory on the NPU: npu-smi info lists who holds it.",
    "no module named": "pip install torch-npu, in the release of the installed PyTorch.",
}


class Ascend(Backend):
    """Ascend NPUs through torch_npu, with HCCL between processes.

    The chip decides: those before Ascend910B1 lack bfloat16, and let float16 overflow saturate,
    which the loss scaler then learns from the device's overflow flag.
    """

    name: ClassVar[str] = "ascend"
    device_type: ClassVar[str] = "npu"
    conformance: ClassVar[dict[str, Any]] = {
        "paths": (
            "sys/bus/pci/devices/0000:00:00.0/vendor",
            "sys/bus/pci/devices/0000:00:00.0/device",
            "sys/bus/pci/devices/0000:00:00.0/class",
            "dev/davinci0",
            "dev/davinci_manager",
            "usr/local/Ascend/driver/version.info",
            "usr/local/Ascend/cann/aarch64-linux/ascend_toolkit_install.info",
        )
    }

    _info: BackendInfo | None = None
    _vendor: Any = None

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Read the PCI bus, device files, the driver's and CANN's version files."""
        return detect.probe(root)

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here."""
        from ds_ascend.porting import porting

        return porting()

    def activate(self) -> None:
        """Import torch_npu and compute something on this process's NPU.

        Raises:
            BackendError: Says what torch_npu or CANN said, and what to do about it.
        """
        if self._vendor is not None:
            return
        try:
            import torch

            vendor = import_module("torch_npu")
            if self._module().device_count() == 0:
                raise RuntimeError("torch_npu sees no NPU")
            float(torch.ones(1, device=self.device()) + 1)
        # Undefined symbols of another CANN are OSErrors, and what autoloading meets is any error.
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise self.unusable(
                error,
                library="torch_npu",
                card="Ascend card",
                mends=_MENDS,
                ask="npu-smi info",
            ) from error
        self._vendor = vendor

    def info(self) -> BackendInfo:
        """The chip, its dtypes and how float16 overflows on it; activates it."""
        if self._info is None:
            self.activate()
            from ds_ascend.dtypes import settle
            from ds_core.components.dtype_speed import measure

            device = self.device()
            with self._current() as module:
                soc = str(module.get_device_name(device.index))
                bf16 = bool(module.is_bf16_supported())
            saturates = self._saturates()
            measured = measure("npu", device.index, {"name": soc, "arch": soc})
            self._info = BackendInfo(
                device=str(device),
                name=soc,
                arch=soc,
                dtypes=settle(measured, soc, bf16=bf16, saturates=saturates),
                overflow="saturate" if saturates else "inf",
            )
            self.overflowed()  # what measuring left in the flag is not the training's
        return self._info

    def _saturates(self) -> bool:
        # The chip's default can be changed by INF_NAN_MODE_FORCE_DISABLE: torch_npu knows.
        return not self._vendor.npu.utils.is_support_inf_nan()

    def overflowed(self) -> bool | None:
        """The device's overflow flag, which is cleared; None where overflow gives inf."""
        self.activate()
        if not self._saturates():
            return None
        flags = self._vendor.npu.utils
        found = bool(flags.get_npu_overflow_flag())
        if found:
            flags.clear_npu_overflow_flag()
        return found

    def distributed_backend(self) -> str | None:
        """HCCL."""
        import torch.distributed as dist

        return "hccl" if dist.is_available() else None

    def reduce_ops(self) -> frozenset[str]:
        """HCCL sums, multiplies and takes extremes; torch_npu divides sums for an average."""
        return frozenset({"sum", "avg", "product", "min", "max"})

    def compile_backend(self) -> str:
        """Inductor where Triton for Ascend is installed, else TorchAir (`npu`)."""
        from torch._dynamo import list_backends

        from ds_ascend.packages import installed

        if installed().triton_ascend:
            return "inductor"
        return "npu" if "npu" in list_backends(exclude_tags=None) else "aot_eager"

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Store 16-bit weights in the matrix unit's tiles (FRACTAL_NZ), where that is faster."""
        self.activate()
        from ds_ascend.tuning import choose_format

        return TuneReport(changes=choose_format(self, model, example_inputs, self._vendor))
