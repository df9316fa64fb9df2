"""Products of 16-bit tensors: operands as they are, sums in float32, one rounding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_LOW = frozenset({torch.float16, torch.bfloat16})
_AUTOCAST = DispatchKeySet(DispatchKey.AutocastCPU)

# By operator: positions of results that are float32 whatever the operands are, and of arguments
# that once were such a result.
_Float32 = tuple[frozenset[int], frozenset[int]]
_NOTHING: _Float32 = (frozenset(), frozenset())
_LOGSUMEXP: _Float32 = (frozenset({1}), frozenset())
_LOGSUMEXP_GIVEN: _Float32 = (frozenset(), frozenset({5}))

_PRODUCTS: dict[Any, _Float32] = {
    aten.mm.default: _NOTHING,
    aten.bmm.default: _NOTHING,
    aten.addmm.default: _NOTHING,
    aten.baddbmm.default: _NOTHING,
    aten.addbmm.default: _NOTHING,
    aten.mv.default: _NOTHING,
    aten.addmv.default: _NOTHING,
    aten.dot.default: _NOTHING,
    aten.vdot.default: _NOTHING,
    aten._addmm_activation.default: _NOTHING,
    aten.convolution.default: _NOTHING,
    aten.convolution_backward.default: _NOTHING,
    aten._scaled_dot_product_flash_attention_for_cpu.default: _LOGSUMEXP,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default: _LOGSUMEXP_GIVEN,
    aten.mkldnn_rnn_layer.default: _NOTHING,
    aten.mkldnn_rnn_layer_backward.default: _NOTHING,
}

# Operators that write their result into a tensor of the caller, and the product that it is.
_IN_PLACE: dict[Any, Any] = {
    aten.addmm_.default: aten.addmm.default,
    aten.baddbmm_.default: aten.baddbmm.default,
    aten.addbmm_.default: aten.addbmm.default,
    aten.addmv_.default: aten.addmv.default,
}
_OUT: dict[Any, Any] = {
    aten.mm.out: aten.mm.default,
    aten.bmm.out: aten.bmm.default,
    aten.addmm.out: aten.addmm.default,
    aten.baddbmm.out: aten.baddbmm.default,
    aten.addbmm.out: aten.addbmm.default,
    aten.mv.out: aten.mv.default,
    aten.addmv.out: aten.addmv.default,
    aten.dot.out: aten.dot.default,
}
_INTERCEPTED = frozenset({*_PRODUCTS, *_IN_PLACE, *_OUT})


class MatrixUnits(TorchDispatchMode):
    """While entered, this thread's products of 16-bit CPU tensors are computed as described.

    Attributes:
        products: How many were, by name of the operator.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _INTERCEPTED:
            return func(*args, **kwargs)
        product = _IN_PLACE.get(func) or _OUT.get(func) or func
        float32 = _PRODUCTS[product]
        out = kwargs.get("out") if func in _OUT else None
        dtype = _common_dtype(args if out is None else (*args, out), float32[1])
        if dtype is None:
            return func(*args, **kwargs)
        self.products[product.overloadpacket.__name__] += 1
        given = {name: _widened(value) for name, value in kwargs.items() if name != "out"}
        # Autocast would cast back what is widened here, as a backward inside its region shows.
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            wide = product(*(_widened(value) for value in args), **given)
        if isinstance(wide, Tensor):
            result = wide.to(dtype)
            if func in _IN_PLACE:
                return args[0].copy_(result)
            if out is not None:
                return out.resize_(result.shape).copy_(result)
            return result
        return tuple(
            value.to(dtype) if _is_float32(value) and position not in float32[0] else value
            for position, value in enumerate(wide)
        )


def _common_dtype(args: tuple[Any, ...], other: frozenset[int]) -> torch.dtype | None:
    """The 16-bit dtype of all operands; None leaves the operator, and its errors, to torch."""
    found: torch.dtype | None = None
    for position, value in enumerate(args):
        if not isinstance(value, Tensor) or position in other or not value.is_floating_point():
            continue
        if found is None:
            if value.dtype not in _LOW or value.device.type != "cpu" or value.is_sparse:
                return None
            found = value.dtype
        elif value.dtype != found:
            return None
    return found


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _LOW else value


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32
