"""Backends: the hardware that a session runs on, and what it can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from ds_core.components.component import Component
from ds_core.errors import BackendError
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

    from ds_core.components.porting import Porting
    from ds_core.session import Session


class Frozen(pydantic.BaseModel):
    """A result that is read and printed, not changed."""

    model_config = pydantic.ConfigDict(frozen=True)


class Problem(Frozen):
    """Something that stands in the way of using a device, and what to do about it."""

    what: str
    mend: str


class Device(Frozen):
    """One device as it was found without torch."""

    index: int
    name: str
    arch: str = ""
    memory: int | None = None
    """Bytes in all; None where that cannot be read without the vendor's library."""


class Probe(Frozen):
    """What can be known of a backend in milliseconds, without importing torch."""

    present: bool
    devices: tuple[Device, ...] = ()
    driver: str | None = None
    software: dict[str, str] = {}
    """Version by name of what the backend computes with: torch's build, vendor libraries."""
    problems: tuple[Problem, ...] = ()

    @property
    def usable(self) -> bool:
        """Present, and nothing stands in the way."""
        return self.present and not self.problems


class DtypeSupport(Frozen):
    """How a dtype does on a device. Reasons are sentences for people."""

    works: bool
    fast: bool = False
    speedup: float | None = None
    """Matrix-multiply throughput over float32's on the same device, as measured."""
    reason: str = ""


class BackendInfo(Frozen):
    """What a backend knows of its device once it is activated."""

    device: str
    name: str
    arch: str = ""
    dtypes: dict[str, DtypeSupport]
    """By short name: `fp32`, `tf32`, `bf16`, `fp16`, `fp8_e4m3fn`, ..."""
    overflow: str = "inf"
    """`inf` where float16 overflow gives inf or nan; `saturate` where it gives the largest value
    and only the backend's `overflowed` can tell."""

    @property
    def best(self) -> str:
        """The fastest of the dtypes fit for training: `bf16`, `fp16`, else `fp32`."""
        usable = [
            (support.speedup or 1.0, name == "bf16", name)
            for name, support in self.dtypes.items()
            if name in ("bf16", "fp16") and support.works and support.fast
        ]
        if not usable:
            return "fp32"
        top = max(usable)
        # bf16 needs no loss scale: fp16 must be clearly faster to be worth one.
        bf16 = [entry for entry in usable if entry[2] == "bf16"]
        return "bf16" if bf16 and bf16[0][0] >= 0.8 * top[0] else top[2]


class MemoryFigures(Frozen):
    """Bytes, in the same terms for every backend; None where the device does not say."""

    allocated: int | None = None
    peak: int | None = None
    reserved: int | None = None
    free: int | None = None
    total: int | None = None


class TuneReport(Frozen):
    """What `tune` changed, one sentence each, with what was measured."""

    changes: tuple[str, ...] = ()


class Backend(Component):
    """A kind of hardware.

    The defaults serve any device that torch knows through `torch.accelerator` and a module
    `torch.<device_type>`: a backend overrides what its vendor does otherwise. Only `probe` runs
    without torch; `activate` comes before everything else. A device that batches up work until it
    is told that a step is over implements `ds_after_step`.
    """

    kind: ClassVar[str] = "backend"

    rank: ClassVar[int] = 10
    """`auto` prefers the highest rank that is usable: accelerators stay at 10, the CPU is at 0."""

    device_type: ClassVar[str]
    """What `torch.device` calls it: `cpu`, `cuda`, `npu`, `hpu`."""

    @classmethod
    def probe(cls, root: str = "/") -> Probe:
        """Look for the hardware without importing torch, in under 50 ms, raising nothing.

        Args:
            root: Where `/sys`, `/proc` and `/dev` are looked for; tests pass a copied tree.
        """
        raise NotImplementedError

    @classmethod
    def porting(cls) -> Porting | None:
        """What code written for CUDA meets here, for `ds check-compatibility`; imports no torch.

        None where nothing is known: code can then not be checked for this backend.
        """
        return None

    def activate(self) -> None:
        """Import and initialise what the device needs; harmless when repeated.

        Raises:
            BackendError: The device cannot be used; says why and what to do.
        """
        raise NotImplementedError

    def unusable(
        self, error: Exception, *, library: str, card: str, mends: Mapping[str, str], ask: str
    ) -> BackendError:
        """What `activate` raises: what the probe says, beside what the vendor's library said.

        Args:
            error: What the library raised.
            library: Who that is, as in `CUDA`.
            card: What was looked for, as in `NVIDIA card`.
            mends: Of errors that are known, by a part of their words in lower case.
            ask: The vendor's command that lists cards.
        """
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        probe = self.probe()
        if probe.problems:
            first = probe.problems[0]
            return BackendError(f"{first.what} ({library}: {reason}.)", mend=first.mend)
        if not probe.present:
            return BackendError(
                f"No {card} was found. ({library}: {reason}.)",
                mend="Choose the backend 'cpu', or give this machine or container a card.",
            )
        known = (mend for text, mend in mends.items() if text in str(error).lower())
        return BackendError(
            f"Backend {self.name!r} cannot be used: {reason}.",
            mend=next(known, f"Run {ask}: where it lists no card, the driver is at fault."),
        )

    def info(self) -> BackendInfo:
        """What the device can do; speeds are measured once for each device and cached on disk."""
        raise NotImplementedError

    @property
    def provides(self) -> frozenset[str]:
        works = {f"dtype:{name}" for name, dtype in self.info().dtypes.items() if dtype.works}
        collective = self.distributed_backend()
        return frozenset(works | ({f"collective:{collective}"} if collective else set()))

    @hookimpl
    def ds_prepare_model(self, session: Session) -> None:
        """Move the model and what the optimizers hold for it to `device()`."""
        session.place(self.device())

    def device(self) -> torch.device:
        """The device of this process: its local rank's under torchrun, else torch's current one."""
        import os

        import torch

        if self.device_type == "cpu":
            return torch.device("cpu")
        module = self._module()
        count = module.device_count()
        rank = os.environ.get("LOCAL_RANK")
        if rank is not None:
            return torch.device(self.device_type, int(rank) % max(count, 1))
        current = module.current_device() if count and hasattr(module, "current_device") else 0
        return torch.device(self.device_type, current)

    def autocast(self, dtype: torch.dtype, **options: Any) -> AbstractContextManager[Any]:
        """A region in which torch computes in `dtype` where that is safe."""
        import torch

        return torch.autocast(self.device_type, dtype, **options)

    def overflowed(self) -> bool | None:
        """Whether a float16 overflow happened since the last call, where the device keeps a flag.

        None where overflow shows as inf or nan in the gradients themselves.
        """
        return None

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given."""
        if self.device_type != "cpu":
            with self._current() as module:
                module.synchronize()

    def memory(self) -> MemoryFigures:
        """Memory in use on `device()` now and at its peak."""
        with self._current() as module:
            stats = module.memory_stats() if hasattr(module, "memory_stats") else {}
            free, total = module.mem_get_info() if hasattr(module, "mem_get_info") else (None, None)
        return MemoryFigures(
            allocated=stats.get("allocated_bytes.all.current"),
            peak=stats.get("allocated_bytes.all.peak"),
            reserved=stats.get("reserved_bytes.all.current"),
            free=free,
            total=total,
        )

    def reset_peak_memory(self) -> None:
        """Let the peak of `memory()` start again from what is in use now."""
        with self._current() as module:
            if hasattr(module, "reset_peak_memory_stats"):
                module.reset_peak_memory_stats()

    def rng_state(self) -> torch.Tensor:
        """State of the device's default generator: a uint8 tensor in host memory."""
        if self.device_type == "cpu":
            import torch

            return torch.get_rng_state()
        with self._current() as module:
            state: torch.Tensor = module.get_rng_state()
        return state

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Take back what `rng_state` returned."""
        if self.device_type == "cpu":
            import torch

            torch.set_rng_state(state)
            return
        with self._current() as module:
            module.set_rng_state(state)

    def distributed_backend(self) -> str | None:
        """Name of the collective library for `init_process_group`; None where there is none."""
        import torch.distributed as dist

        return (
            dist.get_default_backend_for_device(self.device_type) if dist.is_available() else None
        )

    def reduce_ops(self) -> frozenset[str]:
        """Reductions that the collective library supports, in lower case."""
        return frozenset({"sum", "avg", "product", "min", "max"})

    def compile_backend(self) -> str:
        """What to give `torch.compile(backend=...)`."""
        return "inductor"

    def profiler_activities(self) -> list[Any]:
        """What to give `torch.profiler.profile(activities=...)`."""
        from torch.profiler import ProfilerActivity, supported_activities

        own = getattr(ProfilerActivity, self.device_type.upper(), ProfilerActivity.PrivateUse1)
        known = set(supported_activities())  # type: ignore[no-untyped-call]
        return sorted({ProfilerActivity.CPU, own} & known, key=str)

    def tune(self, model: Module, example_inputs: tuple[Any, ...]) -> TuneReport:
        """Lay the model out as the device likes it, where measuring shows that it helps.

        Values stay the same bit for bit; layout (`channels_last`), padding and kernels may change.
        """
        return TuneReport()

    @contextmanager
    def _current(self) -> Iterator[Any]:
        """The module `torch.<device_type>` while `device()` is its current device."""
        module = self._module()
        chosen = module.device(self.device()) if hasattr(module, "device") else nullcontext()
        with chosen:
            yield module

    def _module(self) -> Any:
        import torch

        return torch.get_device_module(self.device_type)
