"""What weights are multiplied with, watched while a model runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 2**15
"""Of one product, more are not looked at: they would say the same."""


@dataclass(frozen=True)
class Use:
    """One product of an input with a weight.

    Attributes:
        x: The input: `[n, channels]`, or `[n, channels, ...]` with pixels.
        dim: The dimension of the weight that is summed over.
        bias: What is added to all outputs alike, if that is a tensor of its own.
        patches: What `torch.nn.functional.unfold` needs to give what each output is made of; None
            where that is one pixel, or unknown.
        reason: Why the weight cannot be adapted, as a clause; empty where it can.
    """

    x: Tensor
    dim: int
    bias: Tensor | None = None
    patches: Mapping[str, Any] | None = None
    reason: str = ""

    def rows(self, patches: bool) -> Tensor:
        """`[n, features]` float32: channels of pixels, or of patches with each of their pixels."""
        from torch.nn import functional

        each = self.x[0, 0].numel()
        x = self.x[:: -(-len(self.x) * each // _ROWS)].float()
        if patches and self.patches is not None:
            x = functional.unfold(x, **self.patches)
        return x.flatten(2).transpose(1, 2).flatten(0, 1) if x.dim() > 2 else x


@contextmanager
def watched(weights: Mapping[str, Tensor], note: Callable[[str, Use], None]) -> Iterator[None]:
    """Tell `note` of every product with one of these weights, by the name that it has here.

    Products that torch itself hides, as in a compiled model, are not seen.
    """
    import torch
    from torch.nn import functional as F
    from torch.overrides import TorchFunctionMode

    names = {id(weight): name for name, weight in weights.items()}
    products = {F.linear: 1, torch.addmm: 0, torch.Tensor.addmm: 0}
    products |= dict.fromkeys((torch.mm, torch.Tensor.mm, torch.matmul, torch.Tensor.matmul), 0)
    convolutions = (torch.conv1d, torch.conv2d, torch.conv3d)
    transposed = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
    attention = inspect.signature(F.multi_head_attention_forward)

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if function is F.multi_head_attention_forward:
                return attend(attention.bind(*args, **kwargs).arguments)
            if function in products or function in convolutions or function in transposed:
                look(function, args, kwargs)
            return function(*args, **kwargs)

    def look(function: Any, args: Any, kwargs: Any) -> None:
        if function in (torch.addmm, torch.Tensor.addmm):
            bias, x, weight = _arguments(args, kwargs, "input", "mat1", "mat2")
            scaled = any(kwargs.get(name, 1) != 1 for name in ("alpha", "beta"))
        else:
            x, weight, bias = _arguments(args, kwargs, "input", "weight", "bias")
            scaled = False
        name = names.get(id(weight))
        if name is None or scaled:
            return
        if function in products:
            note(name, Use(x.flatten(0, -2) if x.dim() > 1 else x[None], products[function], bias))
        elif function in convolutions:
            note(name, _convolution(x, weight, bias, args[3:], kwargs))
        else:
            groups = _settings(args[3:], kwargs, "output_padding", "groups").get("groups", 1)
            x = x if x.dim() == weight.dim() else x[None]
            # How many taps meet in an output depends on where it is, and so would the bias.
            note(name, Use(x, 0, reason=_GROUPS if groups != 1 else ""))

    def attend(arguments: dict[str, Any]) -> Any:
        """Attention with what goes into its last product as its output; then that product."""
        weight, bias = arguments["out_proj_weight"], arguments["out_proj_bias"]
        name = names.get(id(weight))
        if name is None:
            return F.multi_head_attention_forward(**arguments)
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        arguments = {**arguments, "out_proj_weight": identity, "out_proj_bias": None}
        x, shares = F.multi_head_attention_forward(**arguments)
        note(name, Use(x.flatten(0, -2), 1, bias))
        return F.linear(x, weight, bias), shares

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with Watch():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


_GROUPS = "it is a convolution in groups"


def _convolution(x: Tensor, weight: Tensor, bias: Any, rest: Any, kwargs: Any) -> Use:
    settings = _settings(rest, kwargs, "dilation", "groups")
    reason = _GROUPS if settings.get("groups", 1) != 1 else ""
    if x.dim() < weight.dim():
        x = x[None]
    sides = weight.dim() - 2
    padding = settings.get("padding", 0)
    if sides > 2 or isinstance(padding, str):
        return Use(x, 1, bias, None, reason)

    def pair(value: Any, of_a_row: int) -> tuple[int, ...]:
        values = (value,) * sides if isinstance(value, int) else tuple(value)
        values = values * sides if len(values) == 1 else values
        return values if sides == 2 else (of_a_row, *values)

    patches = {
        "kernel_size": pair(weight.shape[2:], 1),
        "stride": pair(settings.get("stride", 1), 1),
        "padding": pair(padding, 0),
        "dilation": pair(settings.get("dilation", 1), 1),
    }
    return Use(x if sides == 2 else x.unsqueeze(2), 1, bias, patches, reason)


def _settings(rest: Any, kwargs: Any, *last: str) -> dict[str, Any]:
    return dict(zip(("stride", "padding", *last), rest, strict=False)) | dict(kwargs)


def _arguments(args: Any, kwargs: Any, *names: str) -> list[Any]:
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    return [given.get(name) for name in names]
