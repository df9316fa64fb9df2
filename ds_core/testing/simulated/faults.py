"""What a simulated device can be made to do wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Defects of a device; by default it has none.

    Attributes:
        out_of_memory_at: The allocation that fails, counted from 1 since the faults took effect;
            those after it succeed.
        saturating_fp16: float16 results that overflow become 65504 in place of inf, and 0 in place
            of nan, as on accelerators without an inf/nan mode. Only the device's overflow flag
            tells: `torch.<name>.overflow_flag()`.
        missing_dtypes: Dtypes that the device cannot hold, by torch's names: `bfloat16`.
        missing_reduce_ops: Reductions that its collective library lacks: `avg`, `product`.
    """

    out_of_memory_at: int | None = None
    saturating_fp16: bool = False
    missing_dtypes: frozenset[str] = frozenset()
    missing_reduce_ops: frozenset[str] = frozenset()
