"""How each kind of layer multiplies: what a probe computes again, and how much work it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ds_dmp import attention
from ds_dmp.watch import ROWS, Probe, thin

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

LINEAR, CONVOLUTION, RECURRENT, MULTIHEAD, PRODUCT, ATTENTION = (
    "linear",
    "convolution",
    "recurrent",
    "multihead",
    "product",
    "attention",
)
"""Kinds of layers: torch's linear, convolution, recurrent networks and multi-head attention; a leaf
of other make that multiplies by its own weight; a module that computes attention from its
children's outputs."""

NAMES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def kind_of(module: Any) -> str | None:
    """The kind of a module that does matrix products itself; None for all others."""
    import torch
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, torch.nn.Linear):
        return LINEAR
    if isinstance(module, _ConvNd):
        return CONVOLUTION
    if isinstance(module, torch.nn.RNNBase):
        return RECURRENT
    if isinstance(module, torch.nn.MultiheadAttention):
        return MULTIHEAD
    if any(True for _ in module.children()):
        return ATTENTION if attention.computes_attention(module) else None
    weights = [p for p in module.parameters(recurse=False) if p.dim() >= 2]
    if weights and not isinstance(module, torch.nn.Embedding):
        return PRODUCT if attention.names_product(module) else None
    return None


def multiply_adds(module: Any, kind: str, x: Tensor, y: Tensor) -> int:
    """Of one forward, from the shapes that went in and came out; attention's own left out."""
    if kind == ATTENTION:
        return 0
    if kind in (MULTIHEAD, RECURRENT):
        tokens = math.prod(x.shape[:-1])
        return tokens * sum(int(p.numel()) for p in module.parameters() if p.dim() == 2)
    weight = largest_weight(module)
    if weight is None:
        return 0
    if kind == CONVOLUTION:
        transposed = bool(module.transposed)
        places = x if transposed else y
        return places.numel() // max(places.shape[-weight.dim() + 1], 1) * weight.numel()
    return math.prod(x.shape[:-1]) * weight.numel()


def largest_weight(module: Module) -> Tensor | None:
    """The weight that a layer multiplies by."""
    weights = [p for p in module.parameters() if p.dim() >= 2]
    return max(weights, key=lambda weight: weight.numel(), default=None)


def probe(
    module: Any,
    kind: str,
    original: Callable[..., Any],
    dtypes: Sequence[str],
    region: Callable[..., Any],
) -> Probe:
    """How to compute one layer again.

    Args:
        module: The layer.
        kind: What `kind_of` says.
        original: Its class's own forward.
        dtypes: 16-bit dtypes to compare.
        region: The backend's `autocast`.
    """
    import torch
    from torch.nn.utils import parametrize

    def lower(tensor: Tensor, dtype: str) -> Tensor:
        made: Tensor = tensor.detach().to(getattr(torch, NAMES[dtype]))
        return made

    def forward(x: Tensor, dtype: str) -> Tensor:
        options: dict[str, Any] = {"enabled": False} if dtype == "fp32" else {}
        low = torch.bfloat16 if dtype == "fp32" else getattr(torch, NAMES[dtype])
        # Casts of weights that are cached without gradients would be met by the real forward.
        with region(low, cache_enabled=False, **options):
            y: Any = original(module, x.float())
        return last(y[0] if kind == RECURRENT else y)

    def last(tensor: Tensor) -> Tensor:
        return tensor.movedim(1, -1) if kind == CONVOLUTION else tensor

    def linear(g: Tensor, x: Tensor, dtype: str) -> Tensor:
        with region(torch.bfloat16, enabled=False):
            rows = g.reshape(
                -1, g.shape[-1]
            )  # else a thinned one is multiplied in many small parts
            product: Tensor = lower(rows, dtype) @ lower(module.weight, dtype)
        return product.float()

    def convolution(g: Tensor, x: Tensor, dtype: str) -> Tensor:
        with region(torch.bfloat16, enabled=False):
            product: Tensor = torch.ops.aten.convolution_backward(
                lower(g, dtype),
                lower(x, dtype),
                lower(module.weight, dtype),
                None,
                module.stride,
                module.padding,
                module.dilation,
                module.transposed,
                module.output_padding,
                module.groups,
                [True, False, False],
            )[0]
        return product.float()

    rows = range(2, 9)
    own = getattr(original, "__module__", "").startswith("torch.nn.modules")
    plain = not parametrize.is_parametrized(module)
    quiet = not any(True for _ in module.buffers(recurse=False)) and plain
    if kind == LINEAR and own and plain:
        return Probe(dtypes, rows, _rows, last, _same_rows, forward, linear)
    if kind == CONVOLUTION and own and plain:
        simple = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        images = range(module.weight.dim(), module.weight.dim() + 1)
        again = convolution if simple else None
        return Probe(dtypes, images, _images, last, _same_images, forward, again)
    if kind == RECURRENT and own and plain and not module.dropout:
        sequences = 0 if module.batch_first else 1
        first = _first_sequence(sequences)
        return Probe(dtypes, range(3, 4), first, last, _same_rows, forward, None)
    if kind in (LINEAR, PRODUCT) and quiet and not attention.names_randomness(module):
        return Probe(dtypes, rows, _rows, last, _same_rows, forward, None)
    return Probe(dtypes, rows, _rows, last, _same_rows, None, None)


def _rows(tensor: Tensor) -> Tensor:
    return thin(tensor, ROWS * tensor.shape[-1], keep=1)


def _same_rows(gradient: Tensor, sample: Tensor) -> Tensor:
    return _rows(gradient)


def _first_sequence(dim: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.narrow(dim, 0, 1)


def _images(tensor: Tensor) -> Tensor:
    pixels = math.prod(tensor.shape[2:])
    return tensor[: max(ROWS // max(pixels, 1), 1)]


def _same_images(gradient: Tensor, sample: Tensor) -> Tensor:
    return gradient[: sample.shape[0]]


def multihead_logits(module: Any, query: Tensor, key: Tensor) -> Tensor:
    """The error of a `MultiheadAttention`'s logits; see `attention.logit_error`."""
    import torch

    batch_first: Any = module.batch_first
    if query.dim() == 3 and not batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    width: Any = module.embed_dim
    bias = module.in_proj_bias
    if module.in_proj_weight is not None:
        weights = module.in_proj_weight.detach()[:width], module.in_proj_weight.detach()[width:]
    else:
        weights = module.q_proj_weight.detach(), module.k_proj_weight.detach()
    projected = []
    for tensor, weight, start in ((query, weights[0], 0), (key, weights[1], width)):
        offset = None if bias is None else bias.detach()[start : start + width].float()
        sample = tensor.detach()[:1] if tensor.dim() == 3 else tensor.detach()[None]
        made = torch.nn.functional.linear(sample.float(), weight[:width].float(), offset)
        heads = made.reshape(*made.shape[:-1], int(module.num_heads), -1)
        projected.append(heads.transpose(1, 2))
    return attention.logit_error(projected[0], projected[1], None)
