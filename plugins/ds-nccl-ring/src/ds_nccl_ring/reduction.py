"""How the values of several ranks become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor, dtype

OPERATIONS = ("sum", "avg", "product", "min", "max")


class Reduction:
    """One operation over values of one dtype.

    Half precision is reduced in float32, and rounded on each host and once more over the hosts. An
    average is a sum of a host's values divided by the number of all ranks, so that it does not
    overflow between hosts where the average is small.

    Args:
        op: One of `OPERATIONS`.
        dtype: Of the values.
        ranks: How many contribute.

    Raises:
        RefusedError: There is no such operation, or it is an average of whole numbers.
    """

    def __init__(self, op: str, dtype: dtype, ranks: int) -> None:
        import torch

        if op not in OPERATIONS:
            raise RefusedError(
                f"There is no operation {op!r}.", mend=f"Use one of {', '.join(OPERATIONS)}."
            )
        if op == "avg" and not (dtype.is_floating_point or dtype.is_complex):
            raise RefusedError(
                f"An average of {dtype} is not a whole number.", mend="Use 'sum' and divide."
            )
        self.op = op
        self.adds = op in ("sum", "avg")
        self.divisor = ranks if op == "avg" else 1
        self.wide = dtype in (torch.float16, torch.bfloat16, torch.complex32)

    def combine(self, into: Tensor, other: Tensor) -> None:
        """Let `into` be both; `other` may be of a narrower dtype."""
        import torch

        if self.adds:
            into += other
        elif self.op == "product":
            into *= other
        elif self.op == "min":
            torch.minimum(into, other.to(into.dtype), out=into)
        else:
            torch.maximum(into, other.to(into.dtype), out=into)

    def combine_all(self, own: Tensor, others: list[Tensor]) -> None:
        """Let `own` be all of them, divided where it is an average."""
        if not others and self.divisor == 1:
            return
        total = own.float() if self.wide else own
        for other in others:
            self.combine(total, other)
        if self.divisor != 1:
            total /= self.divisor
        if self.wide:
            own.copy_(total)


def numbers(tensor: Tensor, op: str) -> Tensor | None:
    """A tensor as real numbers that can be reduced one by one; None where it cannot."""
    import torch

    tensor = tensor.detach()
    if tensor.is_complex() and op in ("sum", "avg") and not tensor.is_conj():
        return torch.view_as_real(tensor)
    return tensor if simple(tensor) else None


def simple(tensor: Tensor) -> bool:
    """Whether a tensor is of numbers that torch can reduce one by one in memory."""
    import torch

    return tensor.layout == torch.strided and tensor.dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int8,
        torch.uint8,
        torch.int16,
        torch.int32,
        torch.int64,
    )


def compressible(values: Tensor, reduction: Reduction) -> bool:
    """Whether a format between hosts may round: sums of floats of at most 32 bits."""
    return reduction.adds and values.dtype.is_floating_point and values.element_size() <= 4
