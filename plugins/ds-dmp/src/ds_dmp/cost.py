"""What each shape of layer costs in 16 bit and in float32, measured once for a device.

Casts can take over a fifth of the time of mixed-precision operators (He et al., Campo: Cost-aware
performance optimization for mixed-precision neural network training, USENIX ATC 2022), so 16 bit
is only worth it where its saving exceeds them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pydantic

from ds_core.components import disk_cache
from ds_core.components.layout import undisturbed
from ds_dmp.layers import Layer
from ds_dmp.products import CONVOLUTION, LINEAR, NAMES

if TYPE_CHECKING:
    from torch import Tensor

    from ds_core.components import Backend

MARGIN = 1.15
"""Nearer than this, two times cannot be told apart on a machine in use."""

_ROUNDS = 3
_WORK = {"cpu": 2e8}
_MUCH_WORK = 5e10
"""Multiply-adds of one measured forward: larger batches are cut, as speed no longer changes."""


class Cost(NamedTuple):
    """Seconds of one forward and backward of a layer."""

    low: float
    """In 16 bit, weights cast, inputs and gradients in 16 bit already."""
    full: float
    """In float32."""
    casts: float
    """Of casting its inputs and outputs, and their gradients."""


class _Entry(pydantic.BaseModel):
    costs: dict[str, tuple[float, float, float]]


def measure(backend: Backend, layers: Sequence[Layer], dtype: str) -> dict[str, Cost]:
    """The cost of each linear layer and convolution at the shape that it was called with.

    Results are kept on disk for each device and shape, so that later runs decide alike. Random
    state, training modes and gradients are left as they are.

    Args:
        backend: Whose device the layers are on.
        layers: Others than linear layers and convolutions are left out.
        dtype: The 16-bit dtype, `bf16` or `fp16`.
    """
    import torch

    info = backend.info()
    identity = [info.name, info.arch, torch.__version__, torch.get_num_threads(), dtype, "1"]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    file = f"dmp-cost-{digest}.json"
    known = _load(file)
    fresh: dict[str, tuple[float, float, float]] = {}
    found: dict[str, Cost] = {}
    for layer in layers:
        if layer.kind not in (LINEAR, CONVOLUTION) or not layer.shapes:
            continue
        key = _key(layer)
        if key not in known and key not in fresh:
            try:
                fresh[key] = _measure(backend, layer, dtype)
            except torch.OutOfMemoryError:
                continue
        found[layer.name] = Cost(*(known.get(key) or fresh[key]))
    if fresh:
        disk_cache.store(file, _Entry(costs={**_load(file), **fresh}).model_dump_json())
    return found


def gate(costs: Mapping[str, Cost]) -> dict[str, str]:
    """Layers that 16 bit makes slower than float32, each with the reason."""
    slow = {
        name: f"takes {cost.low / cost.full:.2f}x as long in 16 bit"
        for name, cost in costs.items()
        if cost.low > MARGIN * (cost.full + cost.casts)
    }
    full = sum(cost.full for cost in costs.values())
    mixed = sum(
        cost.full + cost.casts if name in slow else cost.low for name, cost in costs.items()
    )
    if mixed > full:
        return dict.fromkeys(costs, f"all layers together take {mixed / full:.2f}x as long")
    return slow


def _key(layer: Layer) -> str:
    module: Any = layer.module
    shape = "x".join(map(str, layer.shapes[0]))
    weight = "x".join(map(str, module.weight.shape))
    if layer.kind == LINEAR:
        return f"linear {shape} {weight}"
    form = (module.stride, module.padding, module.dilation, module.groups, module.transposed)
    last = module.weight.is_contiguous()
    return f"convolution {shape} {weight} {form} {'' if last else 'channels_last'}"


def _load(file: str) -> dict[str, tuple[float, float, float]]:
    text = disk_cache.load(file)
    try:
        return _Entry.model_validate_json(text).costs if text else {}
    except ValueError:
        return {}


def _measure(backend: Backend, layer: Layer, dtype: str) -> tuple[float, float, float]:
    import torch

    module: Any = layer.module
    device = next(module.parameters()).device
    shape = list(layer.shapes[0])
    limit = _WORK.get(device.type, _MUCH_WORK)
    calls = max(len(layer.shapes), 1)
    shape[0] = max(1, min(shape[0], round(shape[0] * limit * calls / (layer.multiply_adds or 1))))
    low: torch.dtype = getattr(torch, NAMES[dtype])
    with undisturbed(backend, module):
        x = torch.randn(shape, device=device)
    if layer.kind == CONVOLUTION and not module.weight.is_contiguous() and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    weights = [p for p in module.parameters() if p.requires_grad]

    def step(dtype: torch.dtype, **options: bool) -> Callable[[], Tensor]:
        leaf = x.to(dtype).requires_grad_()

        def run() -> Tensor:
            with backend.autocast(low, **options), torch.enable_grad():
                y: Tensor = module(leaf)
            gradient: Tensor = torch.autograd.grad(y, [leaf, *weights], torch.ones_like(y))[0]
            return gradient

        return run

    with torch.no_grad(), backend.autocast(low, enabled=False):
        y = module(x)

    def casts() -> Tensor:
        x.to(low).float()
        back: Tensor = y.to(low).float()
        return back

    runs = (step(low), step(torch.float32, enabled=False), casts)
    best = [float("inf")] * len(runs)
    with undisturbed(backend, module):
        for turn in range(_ROUNDS + 1):
            for index, run in enumerate(runs):
                backend.synchronize()
                start = time.perf_counter()
                run()
                backend.synchronize()
                if turn:  # the first runs also choose kernels
                    best[index] = min(best[index], time.perf_counter() - start)
    whole = layer.shapes[0][0] / shape[0]
    return best[0] * whole, best[1] * whole, best[2] * whole
