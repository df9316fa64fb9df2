"""How a tensor lies in memory, so that it can be stored flat and come back as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """A tensor's size and strides.

    Attributes:
        size: As the tensor's.
        stride: As the tensor's, in elements.
        distinct: The size, with 1 for each dimension along which the tensor is expanded.
        numel: Distinct elements.
        dense: Whether these fill one piece of memory without gaps.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    distinct: tuple[int, ...]
    numel: int
    dense: bool

    def flatten(self, tensor: Tensor) -> Tensor:
        """The distinct elements, flat: a view in the order of memory where they are dense."""
        if self.dense:
            return tensor.as_strided((self.numel,), (1,), tensor.storage_offset())
        return tensor.as_strided(self.distinct, self.stride, tensor.storage_offset()).reshape(-1)

    def restore(self, flat: Tensor) -> Tensor:
        """The tensor that `flatten` was given, with its strides."""
        import torch

        if not self.dense:
            gapped = torch.empty_strided(
                self.distinct, self.stride, dtype=flat.dtype, device=flat.device
            )
            flat = gapped.copy_(flat.view(self.distinct))
        return flat.as_strided(self.size, self.stride)


def is_plain(value: Any) -> bool:
    """Whether a value is a strided tensor of torch's own class, or a parameter."""
    import torch

    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout is torch.strided


def geometry_of(tensor: Tensor) -> Geometry | None:
    """A strided tensor's geometry; None where it is empty or elements overlap in another way."""
    size, stride = tuple(tensor.shape), tensor.stride()
    distinct = tuple(1 if step == 0 else count for count, step in zip(size, stride, strict=True))
    numel = reach = 1
    dense = True
    for step, count in sorted(zip(stride, distinct, strict=True)):
        if count == 0:
            return None
        if count == 1:
            continue
        if step < reach:
            return None
        dense = dense and step == numel
        reach += (count - 1) * step
        numel *= count
    return Geometry(size, stride, distinct, numel, dense)
