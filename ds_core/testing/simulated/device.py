"""One simulated device and its registration with torch."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.backend_registration import (
    generate_methods_for_privateuse1_backend,
    rename_privateuse1_backend,
)

from ds_core.errors import ConfigError, nearest
from ds_core.testing.simulated import accelerator, autocast, collective, hosted, kernels
from ds_core.testing.simulated.faults import Faults
from ds_core.testing.simulated.memory import TORCH_KEYS, Memory
from ds_core.testing.simulated.module import DeviceModule
from ds_core.testing.simulated.random import Random
from ds_core.testing.simulated.tensors import DeviceTensors


class SimulatedDevice:
    """A device that computes on the CPU; `simulated_device` makes the one of a process.

    Attributes:
        name: What `torch.device` calls it.
        full_name: What it says when it is asked for its name.
        torch_device: The device, with its index.
        memory: Its memory.
        memory_keys: Names of the figures of `torch.<name>.memory_stats`.
        collective: What `torch.distributed` calls its collective library.
        reduce_ops: Reductions of that library, but for injected faults.
        random: Its random numbers.
        tensors: Its tensors.
        faults: What it does wrong.
        overflow: Its flag for saturated float16 results.
    """

    def __init__(
        self,
        name: str,
        *,
        collective: str,
        memory: int,
        memory_keys: Mapping[str, str],
        autocast_dtypes: Sequence[str],
        reduce_ops: Sequence[str],
        faults: Faults,
    ) -> None:
        self.name = name
        self.full_name = f"Simulated {name} on {_cpu_name()}"
        self.torch_device = torch.device(name, 0)
        self.memory = Memory(str(self), memory)
        self.memory_keys = memory_keys
        self.collective = collective
        self.reduce_ops = frozenset(reduce_ops)
        self.random = Random()
        self.tensors = DeviceTensors(self.torch_device, self.memory)
        self.overflow = False
        self._autocast_dtypes = {name: _dtype(name) for name in autocast_dtypes}
        self._take(faults)

    @property
    def autocast_dtypes(self) -> list[torch.dtype]:
        """What autocast may compute in: what was asked for, but for missing dtypes."""
        return [
            dtype for dtype in self._autocast_dtypes.values() if dtype not in self.tensors.missing
        ]

    @contextmanager
    def inject(self, faults: Faults) -> Iterator[None]:
        """Have the device fail as `faults` says, and only so, within."""
        before, fail_at = self.faults, self.memory.fail_at
        self._take(faults)
        try:
            yield
        finally:
            self._take(before)
            self.memory.fail_at = fail_at

    def _take(self, faults: Faults) -> None:
        missing = frozenset(_dtype(name) for name in faults.missing_dtypes)
        for op in faults.missing_reduce_ops - self.reduce_ops:
            raise ConfigError(
                f"The {self} has no reduce operation {op!r} that could be missing.",
                mend=nearest(op, self.reduce_ops)
                or f"It has {', '.join(sorted(self.reduce_ops))}.",
            )
        self.faults = faults
        self.tensors.missing = missing
        kth = faults.out_of_memory_at
        self.memory.fail_at = None if kth is None else self.memory.allocations + kth

    def saturate(self, host: Tensor) -> None:
        """Bring a float16 result back to finite numbers, where that is the device's fault."""
        if not self.faults.saturating_fp16 or host.dtype != torch.float16:
            return
        largest = torch.finfo(torch.float16).max
        if not bool(torch.isfinite(host).all()):
            self.overflow = True
            torch.nan_to_num_(host, nan=0.0, posinf=largest, neginf=-largest)

    def __str__(self) -> str:
        return f"simulated {self.name}"

    def __repr__(self) -> str:
        return f"<SimulatedDevice {self.torch_device}: {self.full_name}>"


def check_faults(faults: Faults) -> None:
    """Refuse faults that no device can have.

    Raises:
        ConfigError: Names the value.
    """
    for name in faults.missing_dtypes:
        _dtype(name)
    _check_names("reduce operation", faults.missing_reduce_ops, collective.REDUCE_OPS)
    if faults.out_of_memory_at is not None and faults.out_of_memory_at < 1:
        raise ConfigError(f"There is no allocation {faults.out_of_memory_at}: they count from 1.")


def _dtype(name: str) -> torch.dtype:
    known = [key for key, value in vars(torch).items() if isinstance(value, torch.dtype)]
    _check_names("dtype", [name], known)
    return getattr(torch, name)  # type: ignore[no-any-return]


def _check_names(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"A simulated device has no {what} {name!r}.",
                mend=nearest(name, known) or f"Known: {', '.join(known)}.",
            )


_libraries: list[torch.library.Library] = []  # what they register ends with them


def register(name: str, **settings: Any) -> SimulatedDevice:
    """Make a device known to torch, for the rest of the process.

    Args:
        name: What torch calls it.
        settings: Those of `SimulatedDevice`.

    Raises:
        ConfigError: A setting is none that a device can have; torch knows no new device.
    """
    check_faults(settings["faults"])
    for dtype in settings["autocast_dtypes"]:
        _dtype(dtype)
    _check_names("reduce operation", settings["reduce_ops"], collective.REDUCE_OPS)
    _check_names("memory figure", settings["memory_keys"], TORCH_KEYS)
    rename_privateuse1_backend(name)  # before anything asks for torch.device(name)
    generate_methods_for_privateuse1_backend()
    device = SimulatedDevice(name, **settings)
    torch._register_device_module(name, DeviceModule(device))  # type: ignore[no-untyped-call]
    torch._C._acc.register_python_privateuseone_hook(_Hooks())
    torch._C._acc.register_python_privateuseone_device_guard(_Guard())
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    kernels.install(device, library)
    hosted.install(device, library)
    _libraries.extend([library, *autocast.install(device)])
    accelerator.install(device)
    collective.install(device, device.collective)
    return device


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    def is_available(self) -> bool:
        return True

    def has_primary_context(self, index: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


def _cpu_name() -> str:
    from ds_core.builtin.cpu import Cpu

    devices = Cpu.probe().devices
    return devices[0].name if devices else platform.machine()
