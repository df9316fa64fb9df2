"""What numbers are between hosts, where they are not what they were."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 256
"""Values that share a scale in int8."""

_SCALE_BYTES = 4
_LARGEST = 127
_SMALLEST_SCALE = 1e-37


class Format(ABC):
    """Fewer bytes for float32 values. Numbers that are not finite never come out as finite ones."""

    @abstractmethod
    def size(self, count: int) -> int:
        """Bytes for so many values."""

    @abstractmethod
    def encode(self, values: Tensor, out: Tensor) -> None:
        """Write float32 `values` (1-D) into `out`, uint8 of `size(values.numel())`."""

    @abstractmethod
    def decode(self, data: Tensor, out: Tensor) -> None:
        """Write what `data` stands for into `out`, float32, 1-D."""

    def encode_with_feedback(self, values: Tensor, out: Tensor, residual: Tensor | None) -> None:
        """Encode `values` and what earlier roundings left out; keep what this one leaves out.

        Seide et al., 1-bit stochastic gradient descent, Interspeech 2014; Karimireddy et al., Error
        feedback fixes SignSGD, ICML 2019 (arXiv:1901.09847).

        Args:
            values: float32, 1-D; not changed.
            out: uint8.
            residual: float32 like `values`, changed in place; None: what is lost is lost.
        """
        import torch

        if residual is None:
            self.encode(values, out)
            return
        residual += values
        self.encode(residual, out)
        decoded = torch.empty_like(residual)
        self.decode(out, decoded)
        residual -= decoded
        # A step that overflowed must not spoil all later ones.
        residual.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


class BFloat16(Format):
    """The upper half of each float32, rounded."""

    def size(self, count: int) -> int:
        return 2 * count

    def encode(self, values: Tensor, out: Tensor) -> None:
        import torch

        out.view(torch.bfloat16).copy_(values)

    def decode(self, data: Tensor, out: Tensor) -> None:
        import torch

        out.copy_(data.view(torch.bfloat16))


class Int8(Format):
    """Blocks of 256 values in 8 bits each, with the block's largest magnitude over 127 as scale.

    The scales come first, float32 each, then the values. An error is at most half a scale. A block
    with inf or nan comes out as nan. Blockwise as in Dettmers et al., 8-bit Optimizers via
    Block-wise Quantization, ICLR 2022 (arXiv:2110.02861), but with even steps.
    """

    def size(self, count: int) -> int:
        return count + _SCALE_BYTES * _blocks(count)

    def encode(self, values: Tensor, out: Tensor) -> None:
        for part, scale, eights in self._parts(values, out):
            self._encode(part, scale, eights)

    def decode(self, data: Tensor, out: Tensor) -> None:
        for part, scale, eights in self._parts(out, data):
            part.copy_(eights)
            part *= scale.unsqueeze(1)

    @staticmethod
    def _parts(values: Tensor, data: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Values, scales and eights of the whole blocks, and of the last one if it is shorter."""
        import torch

        count = values.numel()
        first = _SCALE_BYTES * _blocks(count)
        scales, eights = data[:first].view(torch.float32), data[first:].view(torch.int8)
        whole = count // BLOCK
        parts = []
        for a, b, width in ((0, whole, BLOCK), (whole, _blocks(count), count % BLOCK)):
            if b > a:
                span = slice(a * BLOCK, a * BLOCK + (b - a) * width)
                shape = (b - a, width)
                parts.append((values[span].view(shape), scales[a:b], eights[span].view(shape)))
        return parts

    @staticmethod
    def _encode(values: Tensor, scale: Tensor, eights: Tensor) -> None:
        import torch

        steps = values.abs()
        torch.amax(steps, 1, out=scale)
        broken = scale - scale  # nan where the block has inf or nan, else 0
        scale /= _LARGEST
        torch.mul(values, scale.clamp_min(_SMALLEST_SCALE).reciprocal_().unsqueeze(1), out=steps)
        eights.copy_(steps.round_())
        scale += broken  # whatever a broken block's eights are, they come out as nan


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def format_named(wire: str) -> Format | None:
    """The format of a plan's `wire`; None: the tensor's own dtype, exact."""
    formats: dict[str, type[Format]] = {"bfloat16": BFloat16, "int8": Int8}
    return formats[wire]() if wire in formats else None
