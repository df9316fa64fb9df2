"""Operations whose composition depends on the device: run as a whole as the CPU would.

torch composes attention and recurrent layers differently on each device, so that composing them of
this device's kernels would round differently from the CPU, or need kernels that only CUDA has.
Forward runs on the host with the CPU's autograd, and backward asks that for gradients; second
derivatives are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from ds_core.testing.simulated.kernels import mismatch
from ds_core.testing.simulated.tensors import undisturbed, untraced

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

_HOSTED = (
    "scaled_dot_product_attention",
    *("lstm.input", "lstm.data", "gru.input", "gru.data", "lstm_cell", "gru_cell"),
    *("rnn_tanh.input", "rnn_tanh.data", "rnn_relu.input", "rnn_relu.data"),
)


def install(device: SimulatedDevice, library: torch.library.Library) -> None:
    """Register them with torch's dispatcher."""
    function = _function(device)
    for name in _HOSTED:
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        kernel = _kernel(device, op, function)
        for key in ("PrivateUse1", "AutogradPrivateUse1"):
            library.impl(name, kernel, key)  # type: ignore[no-untyped-call]


def _kernel(
    device: SimulatedDevice, op: OpOverload, function: type[torch.autograd.Function]
) -> Callable[..., Any]:
    @untraced
    def kernel(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensors: list[Tensor] = []
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or (leaf.is_cpu and _is_batch_sizes(leaf, op, args)):
                continue
            if leaf.is_cpu:
                raise mismatch(device, leaf, op)
            if not device.tensors.owns(leaf):
                # A tracer's tensors have no values: it shall see the parts.
                return op.decompose(*args, **kwargs)
            tensors.append(leaf)

        def call(values: list[Tensor]) -> Any:
            given = iter(values)
            own = {id(tensor) for tensor in tensors}
            filled = [next(given) if id(leaf) in own else leaf for leaf in leaves]
            host_args, host_kwargs = pytree.tree_unflatten(filled, spec)
            with undisturbed(), device.random.as_default():
                return op(*host_args, **host_kwargs)

        return function.apply(call, *tensors)  # type: ignore[no-untyped-call]

    return kernel


def _is_batch_sizes(tensor: Tensor, op: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether a tensor tells how a packed sequence is packed, which torch keeps on the CPU."""
    return op._overloadname == "data" and tensor is args[1]


def _function(device: SimulatedDevice) -> type[torch.autograd.Function]:
    class Hosted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, call: Callable[..., Any], *tensors: Tensor) -> Any:
            inputs = [
                device.tensors.host(tensor).requires_grad_(needed)
                for tensor, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True)
            ]
            with torch.enable_grad():
                outputs = call(inputs)
            ctx.save_for_backward(*tensors)  # notices when one of them is changed in place
            ctx.inputs, ctx.outputs = inputs, outputs
            return pytree.tree_map(lambda output: device.tensors.adopt(output.detach()), outputs)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *gradients: Tensor | None) -> Any:
            _ = ctx.saved_tensors
            outputs = [ctx.outputs] if isinstance(ctx.outputs, Tensor) else list(ctx.outputs)
            known = [
                (output, device.tensors.host(gradient))
                for output, gradient in zip(outputs, gradients, strict=True)
                if gradient is not None and output.requires_grad
            ]
            wanted = [tensor for tensor in ctx.inputs if tensor.requires_grad]
            found = iter(
                torch.autograd.grad(
                    [output for output, _ in known],
                    wanted,
                    [gradient for _, gradient in known],
                    retain_graph=True,
                    allow_unused=True,
                )
            )
            results = [next(found) if tensor.requires_grad else None for tensor in ctx.inputs]
            return None, *(
                None if result is None else device.tensors.adopt(result) for result in results
            )

    return Hosted
