"""The module `torch.<name>`: what torch and its users ask of a kind of device."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

Where = torch.device | str | int | None


class DeviceModule(types.ModuleType):
    """Named and behaving as `torch.cuda`, for one device."""

    Stream = torch.Stream
    Event = torch.Event
    _initialized = True  # torch's checkpointing asks before it keeps random state

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__(f"torch.{device.name}", doc=f"{device}, as torch knows it.")
        self._simulated = device
        self._utils = types.SimpleNamespace(_get_device_index=self._index)

    def _index(self, device: Where = None, optional: bool = False, *_: Any) -> int:
        if isinstance(device, str):
            device = torch.device(device)
        index = device.index if isinstance(device, torch.device) else device
        if index not in (None, 0, -1):
            raise RuntimeError(f"Invalid device ordinal {index}: there is one {self._simulated}.")
        return 0

    # Devices

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def init(self) -> None:
        """Nothing to initialise."""

    _lazy_init = init

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device: Where) -> None:
        self._index(device)

    @contextmanager
    def device(self, device: Where) -> Iterator[None]:
        """Within, `device` is the current one; it can only be the first."""
        self._index(device)
        yield

    def get_device_name(self, device: Where = None) -> str:
        return self._simulated.full_name

    def get_device_properties(self, device: Where = None) -> types.SimpleNamespace:
        """Its name and memory in bytes."""
        return types.SimpleNamespace(
            name=self._simulated.full_name, total_memory=self._simulated.memory.limit
        )

    def synchronize(self, device: Where = None) -> None:
        """Nothing to wait for: kernels are done when they return."""
        self._index(device)

    @contextmanager
    def stream(self, stream: torch.Stream | None) -> Iterator[None]:
        """Within, `stream` is the current one, which changes nothing."""
        yield

    def current_stream(self, device: Where = None) -> torch.Stream:
        return torch.accelerator.current_stream(self._index(device))

    # Dtypes

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What `torch.autocast` may compute in."""
        return list(self._simulated.autocast_dtypes)

    def is_bf16_supported(self) -> bool:
        return torch.bfloat16 not in self._simulated.tensors.missing

    def overflow_flag(self) -> bool:
        """Whether a float16 result was saturated since the flag was cleared."""
        return self._simulated.overflow

    def clear_overflow_flag(self) -> None:
        self._simulated.overflow = False

    # Random numbers

    def manual_seed(self, seed: int) -> None:
        self._simulated.random.generator.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        self.manual_seed(seed)

    def seed(self) -> int:
        return self._simulated.random.generator.seed()

    def initial_seed(self) -> int:
        return self._simulated.random.generator.initial_seed()

    def get_rng_state(self, device: Where = None) -> Tensor:
        """A uint8 tensor in host memory."""
        self._index(device)
        return self._simulated.random.generator.get_state()

    def set_rng_state(self, new_state: Tensor, device: Where = None) -> None:
        self._index(device)
        self._simulated.random.generator.set_state(new_state)

    def get_rng_state_all(self) -> list[Tensor]:
        return [self.get_rng_state()]

    def set_rng_state_all(self, new_states: list[Tensor]) -> None:
        for state in new_states:
            self.set_rng_state(state)

    # Memory

    def memory_stats(self, device: Where = None) -> dict[str, int]:
        """Figures under the names that the device was made with."""
        self._index(device)
        return self._simulated.memory.stats(self._simulated.memory_keys)

    def memory_allocated(self, device: Where = None) -> int:
        return self._simulated.memory.allocated

    def max_memory_allocated(self, device: Where = None) -> int:
        return self._simulated.memory.peak

    def memory_reserved(self, device: Where = None) -> int:
        return self._simulated.memory.reserved

    def max_memory_reserved(self, device: Where = None) -> int:
        return self._simulated.memory.reserved_peak

    def mem_get_info(self, device: Where = None) -> tuple[int, int]:
        """Bytes free and in all."""
        memory = self._simulated.memory
        return memory.limit - memory.allocated, memory.limit

    def reset_peak_memory_stats(self, device: Where = None) -> None:
        self._simulated.memory.reset_peak()

    def empty_cache(self) -> None:
        self._simulated.memory.empty_cache()
