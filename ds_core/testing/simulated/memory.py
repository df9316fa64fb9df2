"""A device's memory: what is in use, what was at the peak, and when there is no more."""

from __future__ import annotations

from collections.abc import Mapping

TORCH_KEYS = {
    "allocated": "allocated_bytes.all.current",
    "peak": "allocated_bytes.all.peak",
    "reserved": "reserved_bytes.all.current",
    "reserved_peak": "reserved_bytes.all.peak",
    "limit": "limit_bytes",
    "allocations": "allocation.all.allocated",
    "failures": "num_ooms",
}
"""Every figure of `memory_stats`, named as `torch.cuda` names it where that has it."""

_SEGMENT = 2 * 2**20  # bytes that a caching allocator takes from the driver at a time


class Memory:
    """Counts bytes as a caching allocator would; it holds none itself.

    Memory is taken from the device in segments of 2 MiB and kept when it is freed, until
    `empty_cache`. There is no fragmentation: an allocation fails only when what is in use would
    exceed the limit.

    Attributes:
        limit: Bytes in all.
        allocated: Bytes in use.
        peak: Most bytes in use since the last `reset_peak`.
        reserved: Bytes held from the device, in use or not.
        reserved_peak: Most bytes held since the last `reset_peak`.
        allocations: Allocations so far, those that failed among them.
        failures: Allocations that failed.
        fail_at: The value of `allocations` at which one fails for no reason.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.allocated = self.peak = self.reserved = self.reserved_peak = 0
        self.allocations = self.failures = 0
        self.fail_at: int | None = None

    def take(self, size: int) -> None:
        """Count `size` bytes as in use.

        Raises:
            torch.OutOfMemoryError: There are fewer left, or this allocation was to fail.
        """
        self.allocations += 1
        if self.allocated + size > self.limit or self.allocations == self.fail_at:
            import torch

            self.failures += 1
            free = self.limit - self.allocated
            raise torch.OutOfMemoryError(
                f"{self.name} out of memory. Tried to allocate {_size(size)}, with {_size(free)} "
                f"of {_size(self.limit)} free."
                + (" This failure is injected." if self.allocations == self.fail_at else "")
            )
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        if self.allocated > self.reserved:
            segments = -(-self.allocated // _SEGMENT)
            self.reserved = min(segments * _SEGMENT, self.limit)
            self.reserved_peak = max(self.reserved_peak, self.reserved)

    def give_back(self, size: int) -> None:
        """Count `size` bytes as free again."""
        self.allocated -= size

    def reset_peak(self) -> None:
        """Let both peaks start again from what they are now."""
        self.peak, self.reserved_peak = self.allocated, self.reserved

    def empty_cache(self) -> None:
        """Return what is held but not in use, in whole segments."""
        self.reserved = min(-(-self.allocated // _SEGMENT) * _SEGMENT, self.limit)

    def stats(self, keys: Mapping[str, str]) -> dict[str, int]:
        """The attributes named in `keys`, each under the name that it is given there."""
        return {key: getattr(self, figure) for figure, key in keys.items()}


def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count} bytes"
