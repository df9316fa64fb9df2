"""Operations on the last dimensions, which are pixels, points in time or the like."""

from __future__ import annotations

from dataclasses import replace

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value, free

_DIMS = {"1d": 1, "2d": 2, "3d": 3}


def _names() -> list[str]:
    pools = [
        f"{prefix}_pool{dims}"
        for prefix in ("max", "avg", "adaptive_max", "adaptive_avg", "lp")
        for dims in _DIMS
    ]
    pools += [f"max_pool{dims}_with_indices" for dims in _DIMS]
    pads = [f"{mode}_pad{dims}" for mode in ("reflection", "replication") for dims in _DIMS]
    scales = ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"]
    scales += ["upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]
    for mode in ("upsample_nearest", "_upsample_nearest_exact"):
        scales += [f"{mode}{dims}" for dims in _DIMS]
    return pools + pads + scales


def spatial(flow: Flow, call: Call) -> Value | tuple[Value, ...]:
    """Channels by themselves; the last dimensions together."""
    value = call.values[0]
    count = next(dims for ending, dims in _DIMS.items() if ending in call.name)
    flow.freeze(value, range(value.rank - count, value.rank), "a window slides over it")
    made = call.node.meta["val"]
    results = tuple(
        _with_pixels(value, tuple(int(size) for size in fake.shape), count)
        for fake in (made if isinstance(made, (list, tuple)) else (made,))
    )
    return results if isinstance(made, (list, tuple)) else results[0]


def _with_pixels(value: Value, shape: tuple[int, ...], count: int) -> Value:
    labels = (*value.labels[: value.rank - count], *([None] * count))
    return replace(value.activation(), shape=shape, labels=labels, uniform=())


rule(*_names())(spatial)


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(flow: Flow, call: Call) -> Value:
    """Input [n, c, ...] read at the places of a grid."""
    value, grid = call.value("input"), call["grid"]
    flow.freeze(value, range(2, value.rank), "it is read at places")
    flow.freeze_all([grid], "it says places")
    labels = (*value.labels[:2], *([None] * (value.rank - 2)))
    return replace(free(call.shape), labels=labels)
