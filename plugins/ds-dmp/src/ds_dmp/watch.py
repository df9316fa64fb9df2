"""Statistics of one layer's numbers, gathered on the device without waiting for it.

Each layer has a row of float32 on its device: sums first, then largest values. A look adds to it in
the forward and in the backward; nothing is read on the host until the look is over.

Gradients of outputs come in by an identity behind the layer, those of inputs leave by one before
it. Products are computed again on a thin sample of the batch, in float32 and in each 16-bit dtype:
the shadow probe.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ds_dmp.evidence import Evidence, Spread

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE = 16_384
"""Gradients of one tensor whose magnitudes are looked at."""

ROWS = 64
"""Rows, pixels or tokens of one batch that a probe computes again."""

CANDIDATES = 2
"""16-bit dtypes that a probe compares at most."""

SUMS: tuple[str, ...] = (
    *("calls", "forward_ref", "forward_0", "forward_1"),
    *("out_count", "out_zeros", "out_log", "out_log2", "out_square"),
    *("in_count", "in_zeros", "in_log", "in_log2", "in_square"),
    *("backward_ref", "backward_0", "backward_1", "impact_0", "impact_1"),
)
PEAKS: tuple[str, ...] = (
    *("input_peak", "input_bad", "output_peak", "output_bad"),
    *("out_peak", "out_bad", "in_peak", "in_bad", "weight_bad", "logits"),
)
WIDTH = len(SUMS) + len(PEAKS)
_AT = {name: index for index, name in enumerate(SUMS + PEAKS)}


class Probe(NamedTuple):
    """How to compute a layer again on a sample of its batch."""

    dtypes: Sequence[str]
    """The 16-bit dtypes to compare; `CANDIDATES` at most."""
    dims: range
    """How many dimensions inputs with a batch may have."""
    sample: Callable[[Tensor], Tensor]
    """Takes a part of the inputs."""
    last: Callable[[Tensor], Tensor]
    """Puts channels last."""
    match: Callable[[Tensor, Tensor], Tensor]
    """`match(gradient, sample)`: the same part of the outputs' gradient."""
    forward: Callable[[Tensor, str], Tensor] | None
    """`forward(inputs, dtype)` in `fp32`, `bf16` or `fp16`; None where that is not safe."""
    backward: Callable[[Tensor, Tensor, str], Tensor] | None
    """`backward(gradient, inputs, dtype)`: the gradient of the inputs; None likewise."""


def add(row: Tensor, first: str, *values: Tensor) -> None:
    """Add 0-dimensional values to the sums from `first` on, or raise the peaks from there on."""
    import torch

    start = _AT[first]
    cells = row[start : start + len(values)]
    with torch.no_grad():
        new = torch.stack([value.to(row.device, torch.float32) for value in values])
        if first in SUMS:
            cells.add_(new)
        else:
            cells.copy_(torch.maximum(cells, new))


def peak(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The largest magnitude, inf where something is not finite, and whether something is."""
    import torch

    if tensor.numel() == 0:
        zero = torch.zeros((), device=tensor.device)
        return zero, zero
    values = tensor.detach()
    # An infinity norm takes ten times as long on a CPU; all of these keep nan.
    largest = torch.maximum(values.amax(), -values.amin()).float()
    return torch.nan_to_num(largest, nan=math.inf, posinf=math.inf), (~largest.isfinite()).float()


def thin(tensor: Tensor, limit: int, keep: int = 0) -> Tensor:
    """A view of about `limit` elements at most, spread over all but the last `keep` dimensions.

    Whatever the layout, nothing is copied. Tensors of like leading shape are thinned alike.
    """
    inner = math.prod(tensor.shape[tensor.dim() - keep :]) if keep else 1
    count = math.prod(tensor.shape[: tensor.dim() - keep])
    for dim in range(tensor.dim() - keep):
        if count * inner <= limit:
            break
        size = tensor.shape[dim]
        step = min(max(count * inner // limit, 1), size)
        tensor = tensor[(slice(None),) * dim + (slice(None, None, step),)]
        count = count // size * tensor.shape[dim]
    return tensor


def spread(row: Tensor, prefix: str, gradient: Tensor) -> None:
    """Add the magnitudes of a sample of gradients."""
    sample = gradient.detach().float().abs().flatten()
    there = (sample > 0) & sample.isfinite()
    logs = sample.where(there, 1.0).log2()
    square = sample.where(there, 0.0).square().sum()
    zeros = (sample == 0).sum()
    add(row, f"{prefix}_count", there.sum(), zeros, logs.sum(), logs.square().sum(), square)


def compare(row: Tensor, prefix: str, reference: Tensor, others: Sequence[Tensor]) -> list[Tensor]:
    """Add the square of float32's products, and of the errors of 16-bit ones, which are returned.

    In the forward, what all rows or pixels of a channel have in common counts for nothing: a layer
    whose outputs are 1000 plus a little has lost the little when they are rounded, and an error
    that all share is a shifted bias.
    """

    def square(tensor: Tensor) -> Tensor:
        if prefix == "forward":
            tensor = tensor.flatten(0, -2)
            if tensor.shape[0] > 1:
                tensor = tensor - tensor.mean(0, keepdim=True)
        return tensor.square().sum()

    errors = [other.float() - reference for other in others]
    add(row, f"{prefix}_ref", square(reference), *map(square, errors))
    return errors


def impact(row: Tensor, gradient: Tensor, errors: Sequence[Tensor], whole: int) -> None:
    """Add what errors of outputs do to the loss, to first order: (gradient times error) squared.

    Errors of different elements are independent, so their effects add in squares.

    Args:
        row: Of the layer; or of the model's output, whose own variation is taken for the error.
        gradient: Of the outputs in the sample.
        errors: Of each 16-bit dtype, of the gradient's shape.
        whole: Elements of the whole output, of which the sample is a part.
    """
    part = whole / max(gradient.numel(), 1)
    add(row, "impact_0", *((gradient.float() * error).square().sum() * part for error in errors))


@functools.cache
def identities() -> tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]]:
    """Identities that see gradients pass.

    `entering(x, row)` stands before a layer, `leaving(y, sample, errors, row, probe)` behind it,
    with the probe's sample of inputs and its errors, and `ending(output, row)` behind the model.
    """
    import torch

    class Entering(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, row: Tensor) -> Tensor:
            ctx.row = row
            return x.detach()  # an alias, not a view: users may change it in place

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            largest, bad = peak(gradient)
            add(ctx.row, "in_peak", largest, bad)
            return gradient, None

    class Leaving(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, y: Tensor, x: Tensor, errors: list[Tensor], row: Tensor, probe: Probe
        ) -> Tensor:
            ctx.row, ctx.x, ctx.errors, ctx.probe = row, x, errors, probe
            return y.detach()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            row, probe = ctx.row, ctx.probe
            add(row, "out_peak", *peak(gradient))
            spread(row, "out", thin(gradient, SAMPLE))
            with torch.no_grad():
                if ctx.errors:
                    g = probe.match(gradient, ctx.x)
                    impact(row, probe.last(g), ctx.errors, gradient.numel())
                    if probe.backward is not None:
                        reference = probe.backward(g, ctx.x, "fp32")
                        low = [probe.backward(g, ctx.x, dtype) for dtype in probe.dtypes]
                        compare(row, "backward", reference, low)
                        spread(row, "in", thin(reference, SAMPLE))
                        add(row, "in_peak", peak(reference)[0])
            return gradient, None, None, None, None

    class Ending(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, output: Tensor, row: Tensor) -> Tensor:
            ctx.row, ctx.output = row, thin(output.detach(), SAMPLE)
            return output.detach()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            output = ctx.output.float()
            if output.dim() and output.shape[0] > 1:
                output = output - output.mean(0, keepdim=True)
            impact(ctx.row, thin(gradient, SAMPLE), [output], gradient.numel())
            return gradient, None

    return Entering.apply, Leaving.apply, Ending.apply


def evidence(
    row: Sequence[float], dtypes: Sequence[str], scale: float, output: Sequence[float]
) -> Evidence:
    """What a row says, once it is on the host.

    Args:
        row: Of one layer, reduced over all ranks.
        dtypes: Those that its probe compared.
        scale: The loss scale that its gradients carried.
        output: The row of the model's output.
    """
    whole = output[_AT["impact_0"]]
    value = dict(zip(SUMS + PEAKS, row, strict=True))
    count = value["out_count"]
    broken = ""
    if value["output_bad"] and not value["input_bad"]:
        broken = "forward"
    elif not value["output_bad"] and (value["in_bad"] or value["weight_bad"]):
        broken = "" if value["out_bad"] else "backward"
    return Evidence(
        calls=value["calls"],
        outgoing=_spread(value, "out"),
        incoming=_spread(value, "in"),
        output_peak=value["output_peak"],
        forward=_errors(value, "forward", dtypes),
        backward=_errors(value, "backward", dtypes),
        impact=_errors({**value, "impact_ref": whole}, "impact", dtypes),
        logits=value["logits"],
        broken=broken,
        spoiled_input=bool(value["input_bad"]),
        spoiled_output=bool(value["out_bad"]),
        scale=scale,
        mean_square=_finite(value["out_square"]) / max(count + value["out_zeros"], 1) / scale**2,
    )


def _errors(value: dict[str, float], way: str, dtypes: Sequence[str]) -> dict[str, float]:
    base = value[f"{way}_ref"]
    if not 0 < base < math.inf:
        return {}
    found = {dtype: math.sqrt(value[f"{way}_{i}"] / base) for i, dtype in enumerate(dtypes)}
    # Something not finite is an overflow, which peaks tell better than errors.
    return {dtype: error for dtype, error in found.items() if math.isfinite(error)}


def _spread(value: dict[str, float], prefix: str) -> Spread:
    count = value[f"{prefix}_count"]
    if not count:
        return Spread(zeros=value[f"{prefix}_zeros"], peak=value[f"{prefix}_peak"])
    mean = value[f"{prefix}_log"] / count
    variance = max(value[f"{prefix}_log2"] / count - mean * mean, 0.0)
    return Spread(
        count, value[f"{prefix}_zeros"], mean, math.sqrt(variance), value[f"{prefix}_peak"]
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
