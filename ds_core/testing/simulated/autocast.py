"""Which operations autocast computes in which dtype, as torch documents it for accelerators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch._ops import OpOverload

from ds_core.testing.simulated.tensors import untraced

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

_LOW = (
    *("addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "linalg_multi_dot"),
    *("linear", "linalg_vecdot", "matmul", "mm", "mv", "prelu", "scaled_dot_product_attention"),
    *("conv1d", "conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d.input"),
    *("conv_transpose3d.input", "convolution", "conv1d.padding", "conv2d.padding"),
    *("conv3d.padding", "lstm.input", "lstm.data", "gru.input", "gru.data", "lstm_cell"),
    *("gru_cell", "rnn_tanh.input", "rnn_tanh.data", "rnn_relu.input", "rnn_relu.data"),
)
"""Computed in autocast's dtype."""

_FLOAT32 = (
    *("acos", "asin", "binary_cross_entropy_with_logits", "cdist", "cosh", "cosine_similarity"),
    *("cosine_embedding_loss", "cross_entropy_loss", "cumprod", "cumsum", "dist", "erfinv", "exp"),
    *("expm1", "group_norm", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "log"),
    *("layer_norm", "linalg_vector_norm", "log10", "log1p", "log2", "log_softmax.int"),
    *(
        "logsumexp",
        "margin_ranking_loss",
        "mse_loss",
        "multi_margin_loss",
        "multilabel_margin_loss",
    ),
    *("native_layer_norm", "nll_loss", "nll_loss2d", "nll_loss_nd", "norm.Scalar"),
    *("norm.ScalarOpt_dim", "pdist", "poisson_nll_loss", "pow.Scalar", "pow.Tensor_Scalar"),
    *("pow.Tensor_Tensor", "prod", "prod.dim_int", "reciprocal", "renorm", "rsqrt", "sinh"),
    *("smooth_l1_loss", "soft_margin_loss", "softmax.int", "softplus", "sum", "sum.dim_IntList"),
    *("tan", "triplet_margin_loss"),
)
"""Computed in float32."""

_WIDEST = (
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put"),
    *("scatter_add", "tensordot", "cat", "stack"),
)
"""Computed in the widest dtype of their arguments."""

_KEY = DispatchKeySet(DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]


def install(device: SimulatedDevice) -> list[torch.library.Library]:
    """Register the casts, and let all other operations pass unchanged."""
    rest: Any = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    casts: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    name = device.name
    for names, dtype_for in (
        (_LOW, lambda tensors: torch.get_autocast_dtype(name)),
        (_FLOAT32, lambda tensors: torch.float32),
        (_WIDEST, _widest),
    ):
        for op_name in names:
            packet, _, overload = op_name.partition(".")
            op = getattr(getattr(torch.ops.aten, packet), overload or "default")
            casts.impl(op_name, _casting(op, dtype_for, name), "AutocastPrivateUse1")
    return [rest, casts]


def _casting(
    op: OpOverload, dtype_for: Callable[[list[Tensor]], torch.dtype], name: str
) -> Callable[..., Any]:
    @untraced
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_KEY):
            tensors: list[Tensor] = []
            _collect(args, tensors, name)
            dtype = dtype_for(tensors)
            return op(
                *(_cast(value, dtype, name) for value in args),
                **{key: _cast(value, dtype, name) for key, value in kwargs.items()},
            )

    return kernel


def _widest(tensors: list[Tensor]) -> torch.dtype:
    wide = any(tensor.dtype == torch.float32 for tensor in tensors)
    return torch.float32 if wide or not tensors else tensors[0].dtype


def _collect(value: Any, found: list[Tensor], name: str) -> None:
    if isinstance(value, Tensor):
        if _eligible(value, name):
            found.append(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found, name)


def _cast(value: Any, dtype: torch.dtype, name: str) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if _eligible(value, name) and value.dtype != dtype else value
    if isinstance(value, list | tuple):
        return [_cast(item, dtype, name) for item in value]
    return value


def _eligible(tensor: Tensor, name: str) -> bool:
    return (
        tensor.is_floating_point() and tensor.dtype != torch.float64 and tensor.device.type == name
    )
