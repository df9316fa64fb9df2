"""What stands for `torch.cuda.*` on any accelerator, and what it does where there is no CUDA."""

from __future__ import annotations

EQUAL = {
    "is_available": "is_available",
    "device_count": "device_count",
    "current_device": "current_device_index",
    "set_device": "set_device_index",
    "synchronize": "synchronize",
}
"""Attributes of `torch.cuda` by their equals in `torch.accelerator`, with and without a device."""

_MEMORY = "torch.accelerator.{0} (from torch 2.9 on), which raises where there is no accelerator."
INSTEAD = {
    **{
        name: f"Use {_MEMORY.format(name)}"
        for name in (
            *("empty_cache", "memory_allocated", "max_memory_allocated", "memory_reserved"),
            *("max_memory_reserved", "memory_stats", "reset_peak_memory_stats"),
        )
    },
    "Stream": "Use torch.Stream.",
    "Event": "Use torch.Event.",
    "stream": "Use a torch.Stream as the context manager that it is.",
    "current_stream": "Use torch.accelerator.current_stream.",
    "set_stream": "Use torch.accelerator.set_stream.",
    "device": "Use torch.accelerator.device_index.",
    "manual_seed": "Leave it out: torch.manual_seed seeds every device.",
    "manual_seed_all": "Leave it out: torch.manual_seed seeds every device.",
    "CUDAGraph": "Leave graphs to torch.compile(mode='reduce-overhead').",
    "graph": "Leave graphs to torch.compile(mode='reduce-overhead').",
    "make_graphed_callables": "Leave graphs to torch.compile(mode='reduce-overhead').",
    "nvtx": "Use torch.profiler.record_function.",
    "profiler": "Use torch.profiler.",
    "nccl": "Use torch.distributed.",
    "comm": "Use torch.distributed.",
    "is_bf16_supported": "Ask the backend: ds_core's BackendInfo.dtypes says what is fast.",
    "get_device_capability": "Ask for what you need of the device, as a dtype, not for its number.",
}
"""What to do about an attribute that has no equal, a sentence; for others, `OTHERWISE`."""

OTHERWISE = "Use torch.get_device_module().{0}, where the device's module has it."

QUIET = {
    *("is_available", "device_count", "empty_cache", "memory_allocated", "max_memory_allocated"),
    *("memory_reserved", "max_memory_reserved", "memory_stats", "is_bf16_supported"),
    *("is_initialized", "get_arch_list", "get_rng_state_all", "device", "stream"),
}
"""Attributes that raise nothing without CUDA, but answer as though there were no device."""

HARMLESS = {"manual_seed", "manual_seed_all", "seed", "seed_all"}
"""Attributes that do nothing without CUDA, and need not."""

DTYPES = {
    **dict.fromkeys(("float64", "double", "DoubleTensor"), "fp64"),
    **dict.fromkeys(("complex64", "cfloat"), "complex64"),
    **dict.fromkeys(("complex128", "cdouble"), "complex128"),
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8_e4m3fn": "fp8_e4m3fn",
    "float8_e5m2": "fp8_e5m2",
}
"""Short names of dtypes by what they are called in `torch`."""

DTYPE_METHODS = {"double": "fp64", "cfloat": "complex64", "cdouble": "complex128"}

DYNAMIC = {
    "nonzero": "the number of entries that are not zero",
    "argwhere": "the number of entries that are not zero",
    "masked_select": "the number of entries that are chosen",
    "unique": "the number of distinct values",
    "unique_consecutive": "the number of distinct values",
    "bincount": "the largest value",
    "repeat_interleave": "the sum of the repeats",
}
"""Functions whose result's shape depends on the values of their arguments, and on which."""
