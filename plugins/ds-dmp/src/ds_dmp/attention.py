"""Finding modules that compute attention, and how badly rounding would disturb its logits."""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_FUSED = {"scaled_dot_product_attention", "flex_attention"}
_PRODUCTS = {"matmul", "bmm", "baddbmm", "einsum", "@"}
_DEPTH = 3
QUERIES, KEYS = 64, 1024
"""How much of the logits is looked at."""


def computes_attention(module: Module) -> bool:
    """Whether a module's own forward multiplies activations to weigh other activations.

    Its code is read, not run: it names a fused attention, or both a product and a softmax, itself
    or in functions and methods that it calls, three levels deep. torch's own modules are known
    otherwise.
    """
    if type(module).__module__.startswith("torch.nn.modules"):
        return False
    names = set(_names(type(module).forward, type(module), _DEPTH, set()))
    return bool(names & _FUSED) or ("softmax" in names and bool(names & _PRODUCTS))


def names_product(module: Module) -> bool:
    """Whether a module's own forward multiplies matrices."""
    names = set(_names(type(module).forward, type(module), 1, set()))
    return bool(names & (_PRODUCTS | {"mm", "addmm", "linear", "conv1d", "conv2d", "conv3d"}))


def names_randomness(module: Module) -> bool:
    """Whether a module's own forward may draw random numbers, so that calling it twice differs."""
    names = set(_names(type(module).forward, type(module), _DEPTH, set()))
    return any(name.startswith(("dropout", "rand", "bernoulli", "multinomial")) for name in names)


def _names(function: Any, owner: type, depth: int, seen: set[int]) -> Iterator[str]:
    function = inspect.unwrap(function)  # what it was before a decorator, or a session, wrapped it
    code = getattr(function, "__code__", None)
    if code is None or id(code) in seen:
        return
    seen.add(id(code))
    scope = getattr(function, "__globals__", {})
    for inner in _codes(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname == "BINARY_OP" and instruction.argrepr.startswith("@"):
                yield "@"
        for name in inner.co_names:
            yield name
            if depth > 1:
                for found in (scope.get(name), getattr(owner, name, None)):
                    if isinstance(found, types.FunctionType):
                        yield from _names(found, owner, depth - 1, seen)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def logit_error(query: Tensor, key: Tensor, scale: float | None) -> Tensor:
    """Error of attention's logits in units of the operands' relative rounding error.

    Each product q_i k_i carries the rounding of both; errors of different i are independent and
    add in squares. Per query, the worst key counts, as softmax weighs the largest logits.

    Args:
        query: `[..., queries, d]`.
        key: `[..., keys, d]`, with as many heads or fewer (grouped queries).
        scale: Of the products; `d ** -0.5` without it.

    Returns:
        A 0-dimensional float32 tensor.
    """
    q, k = _one(query)[..., :QUERIES, :].float(), _one(key)[..., :KEYS, :].float()
    if q.dim() > 2 and k.shape[-3] != q.shape[-3]:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    squares = q.square() @ k.square().transpose(-1, -2)
    return (2 * squares.amax(-1)).sqrt().mean() * factor


def _one(tensor: Tensor) -> Tensor:
    return tensor.detach()[:1] if tensor.dim() > 3 else tensor.detach()


def logit_watch(see: Callable[[Tensor], None]) -> Any:
    """A mode that shows `see` the error of logits of each attention that is computed within."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    softmaxes = {functional.softmax, torch.softmax, torch.Tensor.softmax}

    class LogitWatch(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            with torch.no_grad():
                if function is functional.scaled_dot_product_attention:
                    query = args[0] if args else kwargs["query"]
                    key = args[1] if len(args) > 1 else kwargs["key"]
                    see(logit_error(query, key, kwargs.get("scale")))
                elif function in softmaxes and args and args[0].dim() > 2:
                    largest = _one(args[0])[..., :QUERIES, :].float().amax(-1)
                    # Queries that may look at nothing have all their logits masked, far below 0.
                    see(largest.abs().where(largest > -9e3, 0.0).mean())
            return function(*args, **kwargs)

    return LogitWatch()
