"""What a machine can do at most, and what binds an operator (Williams et al., CACM 2009)."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ds_inspector.forest import Floats
from ds_inspector.recording import Recording

BUDGET = 0.8
"""Seconds of measuring."""

_DTYPES = ("float32", "bfloat16", "float16")
_SMALLEST, _LARGEST = 256, 8192
_LONG_ENOUGH = 4e-3
"""Seconds of a product, which then outweighs launch and synchronisation."""
_COPIED = 64 * 2**20
_HOPELESS = 4.0
"""Times slower than float32: a dtype is measured no further."""


def measure_peaks(device: Any = "cpu") -> dict[str, dict[str, float]]:
    """FLOP/s of square matrix products by dtype, and bytes/s of a copy, in about a second.

    The best of repeated runs counts, as other load can only slow one down. A copy reads and writes:
    both are counted. Float32 is computed as the session's settings say, with as many threads as it
    has. Random state is untouched. What was measured once is remembered while the process runs.

    Args:
        device: What torch calls it.

    Returns:
        By device, as `About.peaks`: dtypes that the device cannot multiply are left out.
    """
    import torch

    device = torch.device(device)
    name = "cpu" if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    return {name: dict(_measured(name, torch.get_num_threads()))}


@functools.cache
def _measured(name: str, threads: int) -> dict[str, float]:
    import torch

    device = torch.device(name)
    found: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if torch.amp.is_autocast_available(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        for dtype in _DTYPES:
            try:
                rate = _products(device, getattr(torch, dtype), found.get("float32", 0.0))
            except (RuntimeError, TypeError):
                continue
            found[dtype] = rate
        found["bandwidth"] = _copies(device)
    return found


def _products(device: Any, dtype: Any, usual: float) -> float:
    import torch

    size, rate, begin = _SMALLEST, 0.0, time.perf_counter()
    tile = torch.linspace(-1, 1, _SMALLEST * _SMALLEST, device=device).view(_SMALLEST, -1)
    while time.perf_counter() - begin < BUDGET / 4:
        matrix = tile.to(dtype).repeat(size // _SMALLEST, size // _SMALLEST)
        seconds = _best(functools.partial(torch.mm, matrix, matrix), device, BUDGET / 16)
        rate = max(rate, 2.0 * size**3 / seconds)
        if seconds > _LONG_ENOUGH or size >= _LARGEST or rate * _HOPELESS < usual:
            break
        size *= 2
    return rate


def _copies(device: Any) -> float:
    import torch

    source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2.0 * _COPIED / _best(lambda: target.copy_(source), device, BUDGET / 8)


def _best(run: Callable[[], Any], device: Any, budget: float) -> float:
    import torch

    def wait() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    run()
    wait()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < budget or best == float("inf"):
        start = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def peaks_of(recording: Recording) -> dict[str, float]:
    """The peaks of the device that a recording's time was spent on; empty where not measured."""
    known = recording.about.peaks
    others = [device for device in known if device != "cpu"]
    lanes = recording.events.texts("kind").equal("kernel").any()
    device = others[0] if lanes and others else "cpu"
    return dict(known.get(device) or (next(iter(known.values())) if known else {}))


def bounds(
    flops: Floats, size: Floats, seconds: Floats, dtypes: Sequence[str], peaks: Mapping[str, float]
) -> tuple[list[str], Floats]:
    """What binds each operator, `compute` or `memory`, and its share of that peak.

    It is bound by what takes longer at the machine's best: its arithmetic, or its bytes. Unknown is
    "" and NaN.
    """
    best = np.array([peaks.get(dtype, np.nan) for dtype in dtypes], np.float64)
    computing = flops / best
    moving = size / peaks.get("bandwidth", np.nan)
    least = np.fmax(computing, moving)
    known = ~np.isnan(least) & (least > 0) & (seconds > 0)
    compute = known & (np.nan_to_num(computing) >= np.nan_to_num(moving))
    share = np.where(known, least / np.where(seconds > 0, seconds, np.nan), np.nan)
    bound = np.where(compute, "compute", np.where(known, "memory", ""))
    return bound.tolist(), share
