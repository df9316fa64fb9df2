"""Choosing the memory layout of convolutions by measuring it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

    from ds_core.components.backend import Backend

BUDGET = 2.0
"""Seconds of measuring."""

_ROUNDS = 6
WORTHWHILE = 1.05
"""Nearer than this, two layouts cannot be told apart on a machine in use."""


def choose_layout(
    backend: Backend, model: Module, example_inputs: tuple[Any, ...]
) -> tuple[str, ...]:
    """Lay out 2-d convolution weights as `contiguous` or `channels_last`, whichever runs faster.

    Forward passes in both layouts are timed in turn, in eval mode and without gradients, for about
    two seconds; the best times are compared, since other load can only add to them. The new layout
    is taken where it is at least 1.05 times as fast. Parameters keep their identity and values;
    training modes, buffers and random state are left as they were.

    Args:
        backend: Whose device the model is on.
        model: Changed in place.
        example_inputs: Positional arguments of one forward, on the model's device.

    Returns:
        One sentence with what was measured; none where there is nothing to choose.

    Raises:
        Exception: Whatever the model raises on `example_inputs`; it is left as it was.
    """
    import torch

    weights = _convolution_weights(model)
    before = [weight.data for weight in weights]
    layouts = {
        "contiguous": [data.contiguous() for data in before],
        "channels_last": [data.contiguous(memory_format=torch.channels_last) for data in before],
    }
    strides = {name: [data.stride() for data in layout] for name, layout in layouts.items()}
    if strides["contiguous"] == strides["channels_last"]:
        return ()
    is_last = [data.stride() for data in before] == strides["channels_last"]
    current, other = ("channels_last", "contiguous") if is_last else ("contiguous", "channels_last")
    layouts = {name: layouts[name] for name in (current, other)}
    seconds = time_layouts(backend, model, example_inputs, weights, layouts)
    if seconds is None:
        return (
            f"Convolutions stay {current}: one forward takes over {BUDGET:g} s, "
            "too long to compare layouts.",
        )
    ratio = seconds[current] / seconds[other]
    if ratio < WORTHWHILE:
        return (f"Convolutions stay {current}: {other} ran at {ratio:.2f}x its speed.",)
    assign(weights, layouts[other])
    return (
        f"Convolutions are laid out {other}: a forward runs at {ratio:.2f}x the speed of {current} "
        f"({seconds[current] * 1e3:.3g} ms to {seconds[other] * 1e3:.3g} ms).",
    )


def time_layouts(
    backend: Backend,
    model: Module,
    example_inputs: tuple[Any, ...],
    weights: Sequence[Parameter],
    layouts: Mapping[str, Sequence[Tensor]],
) -> dict[str, float] | None:
    """The best seconds of a forward with each layout of some weights, which are put back.

    Forwards run in turns, in eval mode and without gradients; other load can only add to a time.

    Args:
        backend: Whose device the model is on.
        model: Holds the weights; its modes, buffers and random state are left as they were.
        example_inputs: Positional arguments of one forward.
        weights: Given each layout's tensors in turn.
        layouts: By name; the present one first.

    Returns:
        None where one forward takes over two seconds.
    """
    import torch

    before = [weight.data for weight in weights]

    def run(layout: str) -> float:
        assign(weights, layouts[layout])
        backend.synchronize()
        start = time.perf_counter()
        model(*example_inputs)
        backend.synchronize()
        return time.perf_counter() - start

    try:
        with undisturbed(backend, model), torch.no_grad():
            return _best_times(run, list(layouts))
    finally:
        assign(weights, before)


def assign(weights: Sequence[Parameter], layout: Sequence[Tensor]) -> None:
    """Store the same values in another layout; the parameters stay the same objects."""
    for weight, data in zip(weights, layout, strict=True):
        weight.data = data


@contextmanager
def undisturbed(backend: Backend, model: Module) -> Iterator[None]:
    """Run forwards in eval mode; training modes, buffers and random state are restored after."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    host_state, device_state = torch.get_rng_state(), backend.rng_state()
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        torch.set_rng_state(host_state)
        backend.set_rng_state(device_state)


def _convolution_weights(model: Module) -> list[Parameter]:
    import torch
    from torch.nn import Conv2d, ConvTranspose2d, Parameter

    found: dict[int, Parameter] = {}
    for module in model.modules():
        if isinstance(module, Conv2d | ConvTranspose2d):
            weight = module._parameters.get("weight")
            # Lazy, quantised and sharded weights are of other classes and keep their own layout.
            if type(weight) is Parameter and type(weight.data) is torch.Tensor:
                found[id(weight)] = weight
    return list(found.values())


def _best_times(run: Callable[[str], float], names: Sequence[str]) -> dict[str, float] | None:
    start = time.perf_counter()
    first: dict[str, float] = {}
    for name in names:  # the first runs also choose kernels
        first[name] = run(name)
        if first[name] > BUDGET:
            return None
    best: dict[str, float] = {}
    for _ in range(_ROUNDS):
        if time.perf_counter() - start > BUDGET:
            break
        for name in names:
            best[name] = min(run(name), best.get(name, float("inf")))
    return best or first
