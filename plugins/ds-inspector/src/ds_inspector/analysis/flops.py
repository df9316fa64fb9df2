"""Floating-point operations of an operator, from the shapes of its inputs.

A multiply and an add count as two. Formulas are those of matrix products; whatever works element by
element is left to what the profiler says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ds_inspector.analysis.shapes import Shape, elements

Formula = Callable[[Sequence[Shape], Shape], float]

CONVOLUTION = re.compile(r"(aten::)?_?((mkldnn|cudnn|miopen|thnn)_)?conv(olution|\dd)?$|Conv$")
"""Names of forward convolutions."""


def flops(name: str, inputs: Sequence[Shape], output: Shape = ()) -> float:
    """What an operator computes; NaN where no formula fits.

    Args:
        name: As `aten::mm`, or as ONNX calls it.
        inputs: Of tensors, in order.
        output: Where it is known.
    """
    for pattern, formula in _FORMULAS:
        if pattern.fullmatch(name):
            try:
                return float(formula(inputs, output))
            except (IndexError, ValueError, ZeroDivisionError, OverflowError, StopIteration):
                return float("nan")
    return float("nan")


def _product(inputs: Sequence[Shape], output: Shape) -> float:
    left, right = inputs[0], inputs[1]
    if len(right) == 1:
        return 2.0 * elements(left)
    if left[-1] != right[-2]:
        raise ValueError
    # Batches of either may be broadcast.
    batch = max(elements(left[:-2]), elements(right[:-2]))
    rows = left[-2] if len(left) > 1 else 1
    return 2.0 * batch * rows * left[-1] * right[-1]


def _added(inputs: Sequence[Shape], output: Shape) -> float:
    return _product(inputs[1:], output)


def _linear(inputs: Sequence[Shape], output: Shape) -> float:
    if inputs[0][-1] != inputs[1][-1]:
        raise ValueError
    return 2.0 * elements(inputs[0]) * elements(inputs[1][:-1])


def _gemm(inputs: Sequence[Shape], output: Shape) -> float:
    left, right = inputs[0], inputs[1]
    if len(left) != 2 or len(right) != 2:
        raise ValueError
    shared = next(size for size in reversed(left) if size in right)
    return 2.0 * elements(left) * elements(right) / shared


def _convolution(inputs: Sequence[Shape], output: Shape) -> float:
    if len(output) < 3:
        raise ValueError
    weight = inputs[1]
    return 2.0 * elements(output) * elements(weight) / weight[0]


def _convolution_backward(inputs: Sequence[Shape], output: Shape) -> float:
    gradient, weight = inputs[0], inputs[2]
    if len(gradient) < 3:
        raise ValueError
    return 4.0 * elements(gradient) * elements(weight) / weight[0]  # of input and of weight


def _attention(inputs: Sequence[Shape], output: Shape) -> float:
    query, key, value = inputs[:3]
    pairs = elements(query[:-2]) * query[-2] * key[-2]
    return 2.0 * pairs * (query[-1] + value[-1])


def _attention_backward(inputs: Sequence[Shape], output: Shape) -> float:
    return 2.5 * _attention(inputs[1:], output)  # five products where forward has two


_FORMULAS: list[tuple[re.Pattern[str], Formula]] = [
    (re.compile(pattern), formula)
    for pattern, formula in (
        (r"(aten::)?(mm|bmm|matmul|mv)|MatMul|BatchMatMul(V2)?", _product),
        (r"(aten::)?(addmm|baddbmm|_addmm_activation|addmv)", _added),
        (r"(aten::)?(linear|mkldnn_linear)", _linear),
        (r"Gemm", _gemm),
        (CONVOLUTION.pattern, _convolution),
        (r"(aten::)?((mkldnn|cudnn|miopen)_)?convolution_backward", _convolution_backward),
        (r"(aten::)?_?scaled_dot_product\w*_backward", _attention_backward),
        (r"(aten::)?_?scaled_dot_product\w*", _attention),
    )
]
