"""What torch asks of C++ and a device in Python cannot answer there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ds_core.testing.simulated.memory import TORCH_KEYS

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice


def install(device: SimulatedDevice) -> None:
    """Answer `torch.accelerator`, and make storages: both would stop or crash the process."""
    memory = device.memory
    for name, function in {
        "synchronizeDevice": lambda index: None,
        "isAllocatorInitialized": lambda: True,
        "emptyCache": memory.empty_cache,
        "getDeviceStats": lambda index: memory.stats(TORCH_KEYS),
        "resetPeakStats": lambda index: memory.reset_peak(),
        "getMemoryInfo": lambda index: (memory.limit - memory.allocated, memory.limit),
        "getDeviceCapability": lambda index: {"supported_dtypes": _dtypes(device)},
    }.items():
        setattr(torch._C, f"_accelerator_{name}", function)
    _make_storages(device)


def _dtypes(device: SimulatedDevice) -> set[torch.dtype]:
    every = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    return every - device.tensors.missing


def _make_storages(device: SimulatedDevice) -> None:
    """Let `torch.UntypedStorage(size, device=...)`, which copies and loads, know the device."""
    in_c = torch.UntypedStorage.__new__

    def new(cls: type[Any], *args: Any, **kwargs: Any) -> Any:
        where = kwargs.get("device")
        if where is None or torch.device(where).type != device.name:
            return in_c(cls, *args, **kwargs)
        return device.tensors.storage(in_c(cls, *args))

    torch.UntypedStorage.__new__ = new  # type: ignore[method-assign]
