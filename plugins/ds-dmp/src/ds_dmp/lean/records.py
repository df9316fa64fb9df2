"""What saved tensors became, and how they come back."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_dmp.lean.planes import pack_planes, unpack_planes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ds_dmp.lean.geometry import Geometry
    from ds_dmp.lean.quantize import Quantized
    from ds_dmp.lean.recompute import Side


class Record(ABC):
    """The values of a piece of memory, flat, for all who saved them."""

    @abstractmethod
    def value(self) -> Tensor:
        """The values, flat, in their dtype."""


@dataclass(frozen=True)
class Saved:
    """What autograd holds in a tensor's place: the values and how they lay."""

    record: Record
    geometry: Geometry

    def unpack(self) -> Tensor:
        """The tensor, with the size, strides, dtype and device that it had."""
        return self.geometry.restore(self.record.value())


class Kept(Record):
    """A tensor that stays as it is.

    Autograd does not look for changes in place where hooks saved a tensor, so this does.
    """

    def __init__(self, tensor: Tensor, geometry: Geometry | None = None) -> None:
        # Not the tensor itself: its history may lead back to here, a cycle that nothing frees.
        self._tensor = tensor.detach()
        self._version = tensor._version
        self._geometry = geometry

    def unpack(self) -> Tensor:
        """The tensor.

        Raises:
            RefusedError: It was changed in place since.
        """
        check_version(self._tensor, self._version, "A tensor")
        return self._tensor

    def value(self) -> Tensor:
        """Its values, flat, where its geometry is known."""
        assert self._geometry is not None
        return self._geometry.flatten(self.unpack())


class Recent:
    """The values that were unpacked last: those who share them mostly follow one another.

    It holds on to records weakly. Autograd drops what a node saved once the node has run, so a
    value goes with the last one who needed it.
    """

    def __init__(self, limit: int = 2) -> None:
        self._limit = limit
        self._order: deque[weakref.ref[Shared]] = deque()

    def add(self, record: Shared) -> None:
        """Let `record` keep its value until `limit` others have been added."""
        self._order.append(weakref.ref(record))
        if len(self._order) > self._limit:
            oldest = self._order.popleft()()
            if oldest is not None:
                oldest.forget()


class Shared(Record):
    """A record whose values are computed, and kept for a while where several want them."""

    def __init__(self, recent: Recent) -> None:
        self._recent = recent
        self._value: Tensor | None = None

    def value(self) -> Tensor:
        value = self._value
        if value is None:
            value = self._value = self._compute()
            self._recent.add(self)
        return value

    def forget(self) -> None:
        """Compute the values anew the next time."""
        self._value = None

    @abstractmethod
    def _compute(self) -> Tensor: ...


class Packed(Shared):
    """Values in few bits."""

    def __init__(self, recent: Recent, quantized: Quantized) -> None:
        super().__init__(recent)
        self._quantized = quantized

    def _compute(self) -> Tensor:
        return self._quantized.dequantize()


class Recomputed(Shared):
    """A module's output, from what its input became.

    Args:
        recent: Where values are kept for a while.
        function: From the input to the output; draws no random number.
        source: The input's values.
        given: The input's geometry.
        result: The output's geometry, dense.
        dtype: The output's.
    """

    def __init__(
        self,
        recent: Recent,
        function: Callable[[Tensor], Tensor],
        source: Record,
        given: Geometry,
        result: Geometry,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(recent)
        self._function = function
        self._source = source
        self._given = given
        self._result = result
        self._dtype = dtype

    def _compute(self) -> Tensor:
        import torch

        value = self._function(self._given.restore(self._source.value())).to(self._dtype)
        if value.stride() != self._result.stride:
            laid = torch.empty_strided(
                self._result.size, self._result.stride, dtype=self._dtype, device=value.device
            )
            value = laid.copy_(value)
        return self._result.flatten(value)


class Mask(Record):
    """One bit for each element, where a backward asks for no more than a side of a threshold.

    Args:
        values: Flat.
        side: Where the threshold lies.
    """

    def __init__(self, values: Tensor, side: Side) -> None:
        import torch

        inside = side.inside(values)
        self._numel = values.numel()
        self._values = side.values
        self._dtype = values.dtype
        if self._numel % 8:
            inside = torch.nn.functional.pad(inside, (0, -self._numel % 8))
        self._bits = pack_planes(inside.view(torch.uint8), 1)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self._bits.numel()

    def value(self) -> Tensor:
        inside, outside = self._values
        bits = unpack_planes(self._bits, 1)[: self._numel].to(self._dtype)
        return bits.mul_(inside - outside).add_(outside)


class Cast(Shared):
    """A parameter in another dtype: cast again, not stored."""

    def __init__(self, recent: Recent, parameter: Tensor, dtype: torch.dtype) -> None:
        super().__init__(recent)
        self._parameter = parameter
        self._version = parameter._version
        self._dtype = dtype

    def _compute(self) -> Tensor:
        parameter = self._parameter.detach()
        check_version(parameter, self._version, "A parameter")
        return parameter.to(self._dtype).as_strided((parameter.numel(),), (1,))


def check_version(tensor: Tensor, version: int, what: str) -> None:
    """Refuse a tensor that was changed in place after it was saved.

    Raises:
        RefusedError: It was; names its size.
    """
    if tensor._version != version:
        raise RefusedError(
            f"{what} of size {tuple(tensor.shape)} was changed in place between a forward and the "
            "backward that needs it as it was.",
            mend="Step the optimizer, and change tensors in place, only after the backward.",
        )
