"""Which modules' outputs can be computed again from their inputs, and how.

The batch statistics of a forward, and copies of scale and shift, go into the function, so that
nothing that training changes later has a part in it. A recomputed output comes from an input that
was rounded; it goes to whoever saved the output, mostly the next layer's weight gradient, which
uses it as it is. The one exception are backwards that only ask on which side of a threshold an
element lies: rounding would turn some gradients on or off, so these keep one exact bit for each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Function = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class Side:
    """What the backward of a piecewise linear function asks of what it saved.

    Attributes:
        inside: From the saved values to bools.
        values: What may stand in their place, inside and outside.
    """

    inside: Function
    values: tuple[float, float]


@dataclass(frozen=True)
class Rule:
    """How to treat a module of one class.

    Attributes:
        function: From a module, its input and the statistics that its forward saved to a function
            that computes the output, or None where it cannot be computed.
        exact: The function is what the module itself calls, so its output needs no comparison.
        statistics: The forward saves one-dimensional statistics that the function needs.
        saves_result: The forward saves its output, rather than its input.
        side: See there; from the module.
    """

    function: Callable[[Any, Tensor, Sequence[Tensor]], Function | None]
    exact: bool = True
    statistics: bool = False
    saves_result: bool = False
    side: Callable[[Any], Side] | None = None


def rule_for(module: Module) -> Rule | None:
    """The rule for a module whose forward is the one that torch defines for its class."""
    return _rules().get(type(module).forward)


@functools.cache
def _rules() -> dict[Any, Rule]:
    import torch
    from torch import nn
    from torch.nn import functional

    def each(function: Function) -> Callable[[Any, Tensor, Sequence[Tensor]], Function]:
        return lambda module, given, statistics: function

    return {
        nn.BatchNorm2d.forward: Rule(_batch_norm, exact=False, statistics=True),
        nn.LayerNorm.forward: Rule(_layer_norm, exact=False),
        nn.GroupNorm.forward: Rule(_group_norm, exact=False),
        nn.RMSNorm.forward: Rule(_rms_norm, exact=False),
        nn.ReLU.forward: Rule(
            each(torch.relu),
            saves_result=True,
            # Written so that nan falls where torch's backward puts it; so below.
            side=lambda module: Side(lambda result: ~(result <= 0), (1.0, 0.0)),
        ),
        nn.ReLU6.forward: Rule(
            each(functional.relu6),
            side=lambda module: Side(lambda given: ~((given <= 0) | (given >= 6)), (3.0, 0.0)),
        ),
        nn.LeakyReLU.forward: Rule(
            lambda module, given, statistics: functools.partial(
                functional.leaky_relu, negative_slope=module.negative_slope
            ),
            side=lambda module: Side(lambda given: given > 0, (1.0, -1.0)),
        ),
        nn.GELU.forward: Rule(
            lambda module, given, statistics: functools.partial(
                functional.gelu, approximate=module.approximate
            )
        ),
        nn.SiLU.forward: Rule(each(functional.silu)),
        nn.Hardswish.forward: Rule(each(functional.hardswish)),
        nn.Sigmoid.forward: Rule(each(torch.sigmoid), saves_result=True),
        nn.Tanh.forward: Rule(each(torch.tanh), saves_result=True),
    }


def _batch_norm(module: Any, given: Tensor, statistics: Sequence[Tensor]) -> Function | None:
    if module.training or module.running_mean is None:
        if len(statistics) != 2 or any(len(each) != given.shape[1] for each in statistics):
            return None
        mean, inverse = (statistic.float() for statistic in statistics)
    else:
        mean = module.running_mean.float()
        inverse = (module.running_var.float() + module.eps).rsqrt()
    scale = inverse * module.weight.detach() if module.weight is not None else inverse.clone()
    shift = -mean * scale
    if module.bias is not None:
        shift = shift + module.bias.detach()
    size = (1, -1) + (1,) * (given.dim() - 2)
    scale, shift = scale.view(size), shift.view(size)
    return lambda given: (given * scale).add_(shift)


def _layer_norm(module: Any, given: Tensor, statistics: Sequence[Tensor]) -> Function | None:
    from torch.nn import functional

    size, eps = module.normalized_shape, module.eps
    weight, bias = _copy(module.weight), _copy(module.bias)
    return lambda given: functional.layer_norm(given.float(), size, weight, bias, eps)


def _group_norm(module: Any, given: Tensor, statistics: Sequence[Tensor]) -> Function | None:
    from torch.nn import functional

    groups, eps = module.num_groups, module.eps
    weight, bias = _copy(module.weight), _copy(module.bias)
    return lambda given: functional.group_norm(given.float(), groups, weight, bias, eps)


def _rms_norm(module: Any, given: Tensor, statistics: Sequence[Tensor]) -> Function | None:
    import torch
    from torch.nn import functional

    size, weight = module.normalized_shape, _copy(module.weight)
    # Where none is given, torch takes that of the dtype in which it computes.
    eps = module.eps if module.eps is not None else torch.finfo(given.dtype).eps
    return lambda given: functional.rms_norm(given.float(), size, weight, eps)


def _copy(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach().float().clone()


def agrees(expected: Tensor, computed: Tensor) -> bool:
    """Whether a function computes what a module did, up to rounding in their dtype."""
    import torch

    tolerance = max(1e-4, 2 * torch.finfo(expected.dtype).eps)
    error = (expected.float() - computed.float()).norm()
    return bool(error <= tolerance * expected.float().norm())
