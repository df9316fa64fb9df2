"""What passes would take off a peak of memory, as far as the tensors tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ds_inspector.forest import Ints, sum_by
from ds_inspector.recording import Recording, Table

_SIXTEEN = re.compile(
    r"(aten::)?_?(addmm|mm|bmm|baddbmm|linear|matmul|conv\w*|(mkldnn_)?convolution"
    r"|scaled_dot_product\w*|einsum)\b"
)
"""Operators that autocast computes in 16 bits, by name."""
_LEAST = 4096
"""Elements below which optimizer state stays as it is under `lean+`."""
_WORTH = 0.01
"""Share of the peak below which nothing is said."""


def savings(recording: Recording, time: float) -> list[dict[str, Any]]:
    """What would be alive less at a time, the most first.

    Figures are of tensors that are alive then, so that what a pass itself needs is not in them, and
    another moment may become the peak.
    """
    tensors = recording.tensors
    rows = np.flatnonzero((tensors.numbers("born") <= time) & (tensors.numbers("died") > time))
    there = tensors.take(rows)
    least = _WORTH * float(there.numbers("bytes").sum())
    found = [way(recording, there) for way in _WAYS]
    told = [one for one in found if one is not None and one["bytes"] > least]
    return sorted(told, key=lambda one: -float(one["bytes"]))


def _lean(recording: Recording, there: Table) -> dict[str, Any] | None:
    kept = _activations(recording, there)
    wide = there.texts("dtype").equal("float32")
    narrow = there.texts("dtype").equal("bfloat16") | there.texts("dtype").equal("float16")
    size = there.numbers("bytes")
    full, half = int(size[kept & wide].sum()), int(size[kept & narrow].sum())
    parts = [(full, "three quarters of {} in float32"), (half, "half of {} in 16 bits")]
    shares = " and ".join(text.format(_mib(part)) for part, text in parts if part)
    return _told(
        "ds-dmp lean",
        full * 3 // 4 + half // 2,
        f"{_mib(full + half)} kept for the backward would be held in 8 bits an element: {shares}.",
    )


def _autocast(recording: Recording, there: Table) -> dict[str, Any] | None:
    ops = there.texts("op")
    low = np.array([bool(_SIXTEEN.match(op)) for op in ops.values] or [False])[ops.codes]
    kept = _activations(recording, there) & low & there.texts("dtype").equal("float32")
    full = int(there.numbers("bytes")[kept].sum())
    return _told(
        "bf16",
        full // 2,
        f"{_mib(full)} kept for the backward came in float32 from matrix products and "
        "convolutions, whose outputs autocast holds in 16 bits.",
    )


def _optimizer_state(recording: Recording, there: Table) -> dict[str, Any] | None:
    size = there.numbers("bytes")
    wide = there.texts("dtype").equal("float32") & (size >= 4 * _LEAST)
    full = int(size[there.texts("kind").equal("optimizer") & wide].sum())
    return _told(
        "ds-dmp lean+",
        full // 2,
        f"{_mib(full)} of optimizer state in float32 would be bfloat16 between steps.",
    )


def _recomputation(recording: Recording, there: Table) -> dict[str, Any] | None:
    kept = np.flatnonzero(_activations(recording, there))
    block = _blocks(there, kept)
    kept, block = kept[block >= 0], block[block >= 0]
    size = there.numbers("bytes")[kept].astype(np.float64)
    count = int(block.max()) + 1 if len(block) else 0
    if count < 2:
        return None
    inside = sum_by(block, size, count)
    held = np.zeros(count)
    np.maximum.at(held, block, size)
    freed = float((inside - held).sum() - (inside - held).max())
    return _told(
        "torch.utils.checkpoint",
        int(freed),
        f"{count} repeated blocks keep {_mib(float(inside.sum()))}; with one tensor kept for each, "
        "counted as large as the block's largest, and one block at a time computed again, the rest "
        "is free.",
    )


def _without_gradients(recording: Recording, there: Table) -> dict[str, Any] | None:
    phases = recording.events.texts("phase")
    if "backward" in phases.values or not recording.events.rows:
        return None
    kept = there.texts("kind").equal("activation")
    full = int(there.numbers("bytes")[kept].sum())
    return _told(
        "torch.inference_mode",
        full,
        f"{_mib(full)} was kept for a backward that never came.",
    )


_WAYS: tuple[Callable[[Recording, Table], dict[str, Any] | None], ...] = (
    _lean,
    _autocast,
    _optimizer_state,
    _recomputation,
    _without_gradients,
)


def _activations(recording: Recording, there: Table) -> Any:
    """What is kept for a backward; nothing where there was none."""
    backward = recording.events.texts("phase").equal("backward").any()
    return there.texts("kind").equal("activation") & backward


def _blocks(there: Table, rows: Ints) -> Ints:
    """Of each tensor the numbered module that it was made in, as `layer.3`; -1 outside."""
    modules = there.texts("module")
    numbers: dict[str, int] = {}
    table = []
    for module in modules.values:
        found = re.match(r"(?:[^.]+\.)*?\d+(?=\.|$)", module)
        table.append(numbers.setdefault(found[0], len(numbers)) if found else -1)
    codes = np.array(table or [-1])[modules.codes[rows]]
    used, places = np.unique(codes, return_inverse=True)
    return places - int(len(used) > 0 and used[0] < 0)


def _told(name: str, size: int, how: str) -> dict[str, Any] | None:
    return {"pass": name, "bytes": size, "how": how} if size > 0 else None


def _mib(size: float) -> str:
    return f"{size / 2**20:.4g} MiB"
