"""What an operator works on: shapes, dtype and the bytes that it moves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

_DTYPES = {
    "float": ("float32", 4),
    "double": ("float64", 8),
    "c10::Half": ("float16", 2),
    "c10::BFloat16": ("bfloat16", 2),
    "c10::Float8_e4m3fn": ("float8_e4m3fn", 1),
    "c10::Float8_e5m2": ("float8_e5m2", 1),
    "long int": ("int64", 8),
    "long": ("int64", 8),
    "int": ("int32", 4),
    "short int": ("int16", 2),
    "short": ("int16", 2),
    "signed char": ("int8", 1),
    "unsigned char": ("uint8", 1),
    "bool": ("bool", 1),
    "c10::complex<float>": ("complex64", 8),
    "c10::complex<double>": ("complex128", 16),
}
"""Of tensors, by the profiler's names: torch's name and bytes for each element."""

_VIEWS = frozenset(
    f"aten::{name}"
    for name in """
    view reshape t transpose permute expand expand_as as_strided slice select narrow squeeze
    unsqueeze detach alias unbind split split_with_sizes chunk flatten unflatten _unsafe_view
    resolve_conj resolve_neg movedim swapaxes view_as item _local_scalar_dense empty empty_like
    empty_strided result_type is_nonzero lift_fresh to
    """.split()  # noqa: SIM905
)
_PRODUCTS = {"aten::mm": (0, 1), "aten::bmm": (0, 1), "aten::matmul": (0, 1)}
_PRODUCTS |= {"aten::addmm": (1, 2), "aten::baddbmm": (1, 2), "aten::addbmm": (1, 2)}
_REDUCTIONS = ("aten::sum", "aten::mean", "aten::norm", "aten::amax", "aten::amin", "aten::max")


class Operand(NamedTuple):
    """What is known of an operator's inputs."""

    shapes: str
    """As `4x3x8x8, 8x3x3x3`; tensors only."""
    dtype: str
    """Of the first that is floating-point, else of the first."""
    bytes: float
    """NaN where no tensor goes in."""


_NOTHING = Operand("", "", math.nan)


class Operands:
    """Reads operators' inputs; equal ones are understood once."""

    def __init__(self) -> None:
        self._known: dict[str, Operand] = {}

    def of(self, event: Any) -> Operand:
        """The inputs of one of kineto's events.

        The bytes are those of all inputs, and of an output that is not recorded but follows from
        them: of matrix products, linear layers and convolutions exactly; none of views and nearly
        none of reductions; of other operators as many as the largest input has, as elementwise
        ones write. They are the whole call's, its children's included, as if nothing was cached.
        """
        shapes = event.shapes()
        if not shapes:
            return _NOTHING
        name = event.name()
        scalars = event.concrete_inputs() if "convolution" in name or "conv" in name else ()
        key = f"{name}{shapes}{event.dtypes()}{scalars}"
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _understood(name, shapes, event.dtypes(), scalars)
        return known


def _understood(name: str, shapes: Any, dtypes: Any, scalars: Any) -> Operand:
    tensors = [
        (tuple(shape), *_DTYPES[dtype])
        for shape, dtype in zip(shapes, dtypes, strict=False)
        if dtype in _DTYPES and all(isinstance(size, int) for size in shape)
    ]
    if not tensors:
        return _NOTHING
    floating = [dtype for _, dtype, _ in tensors if "float" in dtype or "complex" in dtype]
    text = ", ".join("x".join(map(str, shape)) or "scalar" for shape, _, _ in tensors)
    sizes = [math.prod(shape) * width for shape, _, width in tensors]
    written = _written(name, shapes, tensors, sizes, scalars)
    moved = 0.0 if name in _VIEWS else float(sum(sizes) + written)
    return Operand(text, floating[0] if floating else tensors[0][1], moved)


def _written(name: str, shapes: Any, tensors: Any, sizes: list[int], scalars: Any) -> float:
    width = tensors[0][2]
    if name in _PRODUCTS:
        left, right = (shapes[place] for place in _PRODUCTS[name])
        if len(left) >= 2 and len(right) >= 2:
            return float(math.prod(left[:-1]) * right[-1] * width)
    if name == "aten::linear" and len(shapes) >= 2 and len(shapes[1]) == 2:
        return float(math.prod(shapes[0][:-1]) * shapes[1][0] * width)
    if name in _CONVOLUTIONS and len(shapes) >= 2:
        size = _convolved(shapes[0], shapes[1], scalars, _CONVOLUTIONS[name])
        if size is not None:
            return float(size * width)
    if name in _REDUCTIONS:
        return float(width)
    return float(max(sizes))


_CONVOLUTIONS = {
    "aten::conv1d": (3, 4, 5),
    "aten::conv2d": (3, 4, 5),
    "aten::conv3d": (3, 4, 5),
    "aten::convolution": (3, 4, 5),
    "aten::_convolution": (3, 4, 5),
    "aten::mkldnn_convolution": (4, 3, 5),
    "aten::cudnn_convolution": (3, 2, 4),
}
"""Where stride, padding and dilation are among the arguments."""


def _convolved(image: Any, kernel: Any, scalars: Any, places: tuple[int, int, int]) -> int | None:
    """Elements of a convolution's output; None where it is transposed or not understood."""
    spatial = len(kernel) - 2
    lists: list[list[int]] = []
    for place in places:
        values = scalars[place] if place < len(scalars) else None
        if not isinstance(values, list) or not values:
            return None
        lists.append(values)
    if scalars[6:7] == [True] and len(scalars) > 7:  # transposed
        return None
    stride, padding, dilation = ((values * spatial)[:spatial] for values in lists)
    size = math.prod(image[:-spatial][:-1]) * kernel[0]
    for axis in range(spatial):
        reach = dilation[axis] * (kernel[2 + axis] - 1) + 1
        size *= (image[axis - spatial] + 2 * padding[axis] - reach) // stride[axis] + 1
    return int(size)
