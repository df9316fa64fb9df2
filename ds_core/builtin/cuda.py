"""The backend for NVIDIA's cards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.builtin import nvidia
from ds_core.components.backend import (
    Backend,
    BackendInfo,
    DtypeSupport,
    Probe,
    Problem,
    TuneReport,
)
from ds_core.components.torch_version import torch_build

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.porting import Porting

_TF32_SINCE, _FP8_SINCE, _TRITON_SINCE = (8, 0), (8, 9), (7, 0)
_MENDS = {
    "forked subprocess": "Start worker processes with the 'spawn' method.",
    "out of memory": "Free memory on the card: nvidia-smi lists who holds it.",
    "no kernel image": "This PyTorch has no kernels for the card: install a build whose "
    "torch.cuda.get_arch_list() names it.",
    "driver": "Install or update NVIDIA's driver, or install a PyTorch for an older CUDA.",
    "busy": "Another process holds the card alone: nvidia-smi lists it.",
}


class Cuda(Backend):
    """NVIDIA cards through CUDA, with NCCL between processes."""

    name: ClassVar[str] = "cuda"
    device_type: ClassVar[str] = "cuda"

    _info: BackendInfo | None = None
    _active: bool = False

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Read cards and driver from `/proc`, `/sys`, `/dev` and NVML.

        Devices are numbered in PCI order, restricted by `CUDA_VISIBLE_DEVICES`; CUDA's own order
        differs where cards differ and `CUDA_DEVICE_ORDER` is not `PCI_BUS_ID`.
        """
        found = nvidia.find(root)
        build = torch_build()
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = nvidia.visible(found.cards, setting)
        problems = list(found.problems)
        if found.cards and not shown:
            problems.append(
                Problem(
                    what=f"CUDA_VISIBLE_DEVICES={setting!r} hides every card.",
                    mend="Unset it, or list cards by number, as in CUDA_VISIBLE_DEVICES=0.",
                )
            )
        # Of a ROCm build its user should hear even without a card of NVIDIA's.
        if found.cards or (build is not None and build.hip is not None):
            problem = nvidia.build_problem(build, found.driver, root)
            problems += [problem] if problem else []
        software = {"torch": build.version} if build else {}
        if build and build.cuda:
            software["cuda"] = build.cuda
        return Probe(
            present=bool(found.cards),
            devices=nvidia.devices(shown),
            driver=found.driver,
            software=software,
            problems=tuple(problems),
        )

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here."""
        from ds_core.builtin.cuda_porting import porting

        return porting()

    def activate(self) -> None:
        """Initialise CUDA and compute something on this process's card.

        Raises:
            BackendError: Says what CUDA said, and what to do about it.
        """
        if self._active:
            return
        import torch

        try:
            if torch.version.hip is not None:
                raise RuntimeError("this PyTorch is built for AMD's ROCm")
            torch.cuda.init()  # type: ignore[no-untyped-call]
            if torch.cuda.device_count() == 0:
                raise RuntimeError("CUDA sees no card")
            float(torch.ones(1, device=self.device()) + 1)
        except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
            raise self.unusable(
                error,
                library="CUDA",
                card="NVIDIA card",
                mends=_MENDS,
                ask="nvidia-smi",
            ) from error
        self._active = True

    def info(self) -> BackendInfo:
        """Name, compute capability and dtypes of this process's card; activates it."""
        if self._info is None:
            self.activate()
            import torch

            from ds_core.components.dtype_speed import measure

            device = self.device()
            card = torch.cuda.get_device_properties(device)
            capability = (card.major, card.minor)
            arch = f"sm_{card.major}{card.minor}"
            dtypes = measure(
                "cuda",
                device.index,
                {"name": card.name, "arch": arch},
                tf32=capability >= _TF32_SINCE,
            )
            self._info = BackendInfo(
                device=str(device),
                name=card.name,
                arch=arch,
                dtypes=dtypes | by_capability(capability),
            )
        return self._info

    def distributed_backend(self) -> str | None:
        """NCCL, or gloo where torch is built without it (Windows)."""
        import torch.distributed as dist

        if not dist.is_available():
            return None
        if dist.is_nccl_available():
            return "nccl"
        return "gloo" if dist.is_gloo_available() else None

    def compile_backend(self) -> str:
        """Inductor, where Triton supports the card: from compute capability 7.0 on."""
        import torch

        capability = torch.cuda.get_device_capability(self.device())
        return "inductor" if capability >= _TRITON_SINCE else "aot_eager"

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Lay out convolutions as they run faster, `contiguous` or `channels_last`."""
        from ds_core.components.layout import choose_layout

        return TuneReport(changes=choose_layout(self, model, example_inputs))


def by_capability(capability: tuple[int, int]) -> dict[str, DtypeSupport]:
    """Dtypes that a card's compute capability settles and autocast does not reach."""
    import torch

    def has(since: tuple[int, int]) -> bool:
        return capability >= since

    def lacks(since: tuple[int, int]) -> DtypeSupport:
        return DtypeSupport(
            works=False,
            reason="It needs compute capability {}.{}; this card has {}.{}.".format(
                *since, *capability
            ),
        )

    found = {} if has(_TF32_SINCE) else {"tf32": lacks(_TF32_SINCE)}
    for name in ("e4m3fn", "e5m2"):
        if hasattr(torch, f"float8_{name}"):
            found[f"fp8_{name}"] = (
                DtypeSupport(
                    works=True,
                    reason="In scaled matrix multiplies alone, which a precision policy must ask "
                    "for; not measured.",
                )
                if has(_FP8_SINCE)
                else lacks(_FP8_SINCE)
            )
    return found
