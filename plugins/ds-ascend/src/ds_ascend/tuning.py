"""The layout of weights in memory: plain, or in the tiles that the matrix unit reads.

The matrix unit of an Ascend NPU multiplies tiles of 16 x 16. A plain matrix (ND) is cut into tiles
on each use; one in the format FRACTAL_NZ is stored so. Values and shapes are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.components.layout import BUDGET, WORTHWHILE, assign, time_layouts

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

    from ds_core.components.backend import Backend

TILE = 16
FRACTAL_NZ = 29
"""CANN's number of the format, `ACL_FORMAT_FRACTAL_NZ`."""


def choose_format(
    backend: Backend, model: Module, example_inputs: tuple[Any, ...], vendor: Any
) -> tuple[str, ...]:
    """Store the weights of linear layers in tiles, where a forward is at least 1.05 times as fast.

    Only 16-bit weights whose sides are multiples of 16 come into question: others would be padded
    or converted. Forwards in both formats are timed in turn, in eval mode and without gradients.
    Parameters keep their identity and values.

    Args:
        backend: Whose device the model is on.
        model: Changed in place.
        example_inputs: Positional arguments of one forward, on the model's device.
        vendor: The module `torch_npu`.

    Returns:
        One sentence each; none where the model has no linear layer.

    Raises:
        Exception: Whatever the model raises on `example_inputs`; it is left as it was.
    """
    import torch

    linear = [one for one in model.modules() if isinstance(one, torch.nn.Linear)]
    if not linear:
        return ()
    weights = _weights(linear)
    if not weights:
        return (
            "Linear layers keep plain weights: tiles are for weights in 16 bit whose sides are "
            f"multiples of {TILE}.",
        )
    plain = [weight.data for weight in weights]
    tiled = [vendor.npu_format_cast(data, FRACTAL_NZ) for data in plain]
    # Off by default from Ascend910B1 on, and torch.npu.config cannot be read.
    if any(vendor.get_npu_format(data) != FRACTAL_NZ for data in tiled):
        return (
            "Linear layers keep plain weights: torch_npu makes no tiles unless "
            "torch.npu.config.allow_internal_format is True.",
        )

    layouts = {"plain": plain, "tiled": tiled}
    seconds = time_layouts(backend, model, example_inputs, weights, layouts)
    if seconds is None:
        return (
            f"Linear layers keep plain weights: one forward takes over {BUDGET:g} s, too long to "
            "compare formats.",
        )
    slow, fast = seconds["plain"], seconds["tiled"]
    ratio = slow / fast
    count = f"{len(weights)} linear layer{'s' if len(weights) > 1 else ''}"
    if ratio < WORTHWHILE:
        return (f"Weights of {count} stay plain: tiles ran at {ratio:.2f}x their speed.",)
    assign(weights, tiled)
    return (
        f"Weights of {count} are stored in tiles (FRACTAL_NZ): a forward runs at {ratio:.2f}x the "
        f"speed ({slow * 1e3:.3g} ms to {fast * 1e3:.3g} ms).",
    )


def _weights(layers: list[Any]) -> list[Parameter]:
    import torch

    found: dict[int, Parameter] = {}
    for layer in layers:
        weight = layer._parameters.get("weight")
        # Quantised and sharded weights are of other classes and keep their own layout.
        if (
            type(weight) is torch.nn.Parameter
            and type(weight.data) is torch.Tensor
            and weight.dtype in (torch.float16, torch.bfloat16)
            and not any(side % TILE for side in weight.shape)
        ):
            found[id(weight)] = weight
    return list(found.values())
