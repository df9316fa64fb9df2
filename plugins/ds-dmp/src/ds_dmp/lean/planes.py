"""Numbers of 1, 2 or 4 bits, several to a byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pack_planes(numbers: Tensor, bits: int) -> Tensor:
    """Put 8 / bits numbers into each byte.

    A byte holds numbers that stand far apart, so that every operation here runs over memory in one
    piece.

    Args:
        numbers: uint8 (n,), each below 2**bits; n is a multiple of 8 / bits.
        bits: 1, 2, 4 or 8.

    Returns:
        uint8 (n * bits / 8,); `numbers` itself where bits is 8.
    """
    if bits == 8:
        return numbers
    planes = numbers.view(8 // bits, -1)
    packed = planes[0].clone()
    for index, plane in enumerate(planes[1:], 1):
        packed |= plane << (bits * index)
    return packed


def unpack_planes(packed: Tensor, bits: int) -> Tensor:
    """The uint8 numbers (n,) that `pack_planes` was given."""
    import torch

    if bits == 8:
        return packed
    planes = [(packed >> (bits * index)) & ((1 << bits) - 1) for index in range(8 // bits)]
    return torch.cat(planes)
