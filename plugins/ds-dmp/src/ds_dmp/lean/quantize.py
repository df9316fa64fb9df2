"""Floating-point tensors in 8, 4 or 2 bits an element, rounded stochastically.

After ActNN (Chen et al., 2021, arXiv:2104.14129) and GACT (Liu et al., 2022, arXiv:2206.11357):
each group of 256 elements has a grid of its own, and an element goes to one of the two points
beside it with the probability that keeps its expectation. On top of that, exact zeros stay exact
zeros, and where a group has zeros and nothing below, nothing else becomes zero: the backward of
ReLU reads the pattern of its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds_dmp.lean.noise import LENGTH, Noise, add_window
from ds_dmp.lean.planes import pack_planes, unpack_planes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUP = 256
"""Elements that share one grid."""

GRID_BYTES = 8
"""What one group's grid takes: a step and a zero point in float32."""

_ABOVE_ZERO = 2.0**-16  # of a step: the lowest point of a group that has zeros, above zero
_WIDER = 1 + 2.0**-20  # so that rounding errors lead nowhere beyond the last point
_SMALLEST_STEP = 2.0**-110  # its inverse and its fraction above must be normal numbers


@dataclass(frozen=True)
class Quantized:
    """A flat tensor in few bits.

    Attributes:
        codes: uint8, `bits / 8` bytes for each element of each whole group.
        step: float32 (groups, 1).
        zero: float32 (groups, 1), the code of 0; may lie between codes or outside of them. A code c
            stands for (c - zero) * step, or for 0 where that is below 0 and 0 < zero < 1.
        bits: 8, 4 or 2.
        numel: Elements, without what fills the last group.
        dtype: What the elements were.
        has_floor: Whether some group has 0 < zero < 1.
        spread: The sum over elements of the squared range of their group.
    """

    codes: Tensor
    step: Tensor
    zero: Tensor
    bits: int
    numel: int
    dtype: torch.dtype
    has_floor: bool
    spread: float

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.codes.numel() + GRID_BYTES * self.step.numel()

    def dequantize(self) -> Tensor:
        """The elements again, flat (numel,) in their dtype, each within a step of what it was."""
        import torch

        groups = self.step.numel()
        result = torch.empty(groups * GROUP, dtype=self.dtype, device=self.codes.device)
        floor = None
        if self.has_floor:
            between = (self.zero > 0) & (self.zero < 1)
            floor = torch.where(between, 0.0, -torch.inf)
        rows = _rows_at_once(self.codes)
        packed = rows * GROUP * self.bits // 8
        for index, start in enumerate(range(0, groups, rows)):
            span = slice(start, start + rows)
            codes = unpack_planes(self.codes[index * packed : (index + 1) * packed], self.bits)
            target = result[start * GROUP : (start + rows) * GROUP]
            values = target if self.dtype == torch.float32 else torch.empty_like(codes).float()
            values.copy_(codes)
            grid = values.view(-1, GROUP)
            grid.sub_(self.zero[span]).mul_(self.step[span])
            if floor is not None:
                torch.maximum(grid, floor[span], out=grid)
            if values is not target:
                target.copy_(values)
        return result[: self.numel]


def quantize(values: Tensor, bits: int, noise: Noise) -> Quantized | None:
    """Put a flat tensor into few bits.

    Args:
        values: float32, bfloat16 or float16 (n,), in one piece, n >= 1.
        bits: 8, 4 or 2.
        noise: Where random numbers come from.

    Returns:
        None where a value is not finite or so large that its grid might not be.
    """
    import torch

    numel = values.numel()
    if numel % GROUP:
        values = torch.cat([values, values[-1:].expand(-numel % GROUP)])
    grouped = values.view(-1, GROUP)
    rows = _rows_at_once(values)
    # In float32, as torch seeks the extremes of 16-bit numbers one by one, and those of aminmax too
    parts = [grouped[start : start + rows] for start in range(0, len(grouped), rows)]
    low = torch.cat([part.float().amin(1, keepdim=True) for part in parts])
    high = torch.cat([part.float().amax(1, keepdim=True) for part in parts])
    step, zero, has_floor = _grid(low, high, bits, values.dtype)
    limit = torch.finfo(values.dtype).max / 4
    # One transfer for all three; nan fails the comparison.
    sound, floors, spread = torch.stack(
        [
            (torch.maximum(-low, high) <= limit).all().double(),
            has_floor.any().double(),
            (high - low).double().square().sum() * GROUP,
        ]
    ).tolist()
    if not sound:
        return None
    inverse = 1 / step
    # What is above zero must not fall below code 1, wherever its group's lowest point lies exactly.
    first = torch.where(has_floor, 1.0, zero)
    others = (~has_floor).float()
    groups = step.numel()
    codes = torch.empty(groups * GROUP * bits // 8, dtype=torch.uint8, device=values.device)
    packed = rows * GROUP * bits // 8
    for index, start in enumerate(range(0, groups, rows)):
        span = slice(start, start + rows)
        part = grouped[span].float()
        position = part.mul(inverse[span]).add_(first[span])
        add_window(position.view(-1), noise.uniform(values.device))
        if floors:
            sign = part.sign()
            position.mul_(torch.maximum(sign, others[span], out=sign))
        numbers = position.to(torch.int32).to(torch.uint8)  # on a CPU faster than in one
        codes[index * packed : (index + 1) * packed] = pack_planes(numbers.view(-1), bits)
    return Quantized(codes, step, zero, bits, numel, values.dtype, bool(floors), spread)


def _grid(
    low: Tensor, high: Tensor, bits: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Each group's step and zero point, and which ones must keep what is above zero above it."""
    import torch

    last = 2**bits - 1
    # Without a zero in its range: all points from the lowest value to the highest. The step must
    # not vanish beside the values, or float32 could not hold the zero point, and leaves room for
    # what is lost where that is added.
    largest = torch.maximum(-low, high)
    step = ((high - low + largest * 2.0**-21) / last).clamp_min_(_SMALLEST_STEP)
    step = torch.maximum(step, largest * 2.0**-20) * _WIDER
    zero = -low / step
    # With a zero, or next to one, and nothing below: code 0 for it, the others from just above.
    has_floor = (low >= 0) & (low < step * _ABOVE_ZERO)
    # With values on both sides: a point at zero.
    below = (-low * last / (high - low)).round_().clamp_(1, last - 1)
    below = torch.where(high == 0, last, below)
    two_sided = torch.maximum(-low / below, high / (last - below).clamp_min_(1))
    two_sided = two_sided.clamp_min_(_SMALLEST_STEP) * _WIDER
    crosses = (low < 0) & (high >= 0)
    step, zero = torch.where(crosses, two_sided, step), torch.where(crosses, below, zero)
    least = 2.0**-24 if dtype == torch.float16 else torch.finfo(dtype).tiny
    one_sided = (largest / (last - 1)).clamp_min_(max(2 * least, _SMALLEST_STEP)) * _WIDER
    above = (one_sided * _ABOVE_ZERO).clamp_min_(least)
    step = torch.where(has_floor, one_sided, step)
    zero = torch.where(has_floor, 1 - above / one_sided, zero)
    return step, zero, has_floor


def _rows_at_once(tensor: Tensor) -> int:
    """Groups to work on together: as many as a CPU's cache holds; elsewhere launches cost more."""
    elements = LENGTH if tensor.device.type == "cpu" else 64 * LENGTH
    return elements // GROUP
