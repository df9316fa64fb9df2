"""Operators on the stub's device, computed by the CPU's kernels in the device's own memory.

Device memory of the stub is host memory: the CPU's kernels work on it in place. Allocation, copies
between host and device, views and autograd stay torch_npu's own. An operator that is not known here
is refused; outside of `computing_on_host` any operator fails, as the stub runs none.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
npu = torch.ops.npu

_OF_TORCH_NPU = {
    *(aten.empty, aten.empty_strided, aten.empty_like, aten.new_empty, aten.new_empty_strided),
    *(aten.resize_, aten.set_, aten.record_stream, aten._local_scalar_dense, aten.is_pinned),
    *(aten._pin_memory, aten.squeeze_, aten.unsqueeze_, aten.transpose_, aten.t_, aten.as_strided_),
    *(aten.is_same_size, aten.is_set_to, aten._has_compatible_shallow_copy_type),
    *(npu.get_npu_format, npu.get_storage_size, npu.unsafe_empty_with_format),
}
"""Operators that touch no values, or move them without computing."""

_COPIES = {aten.copy_, aten._to_copy, aten._copy_from, aten._copy_from_and_resize}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""These take indices from the host."""

_PLAIN = (0, 2, 30)
"""CANN's numbers of the formats in which values lie as their strides say: NCHW, ND and NCDHW."""

_HALF = torch.finfo(torch.float16).max


@contextmanager
def computing_on_host(*, saturating: bool = False) -> Iterator[None]:
    """Compute what torch is asked to on the stub's device, in this thread and those it starts.

    Args:
        saturating: Whether a float16 overflow gives the largest value and sets the device's flag.

    Raises:
        NotImplementedError: An operator is none of torch's own.
    """
    device, run, show = _Device(saturating), threading.Thread.run, torch._tensor_str._str

    def run_with_mode(thread: threading.Thread) -> None:
        with _OnHost(device):
            run(thread)

    def show_from_host(tensor: Tensor, **options: Any) -> str:
        return show(_on_host(tensor.detach()) if _on_npu(tensor) else tensor, **options)

    threading.Thread.run = run_with_mode  # type: ignore[method-assign]
    torch._tensor_str._str = show_from_host  # torch prints without any mode
    try:
        with _OnHost(device):
            yield
    finally:
        threading.Thread.run = run  # type: ignore[method-assign]
        torch._tensor_str._str = show


@dataclass
class _Device:
    """What all threads see of the device."""

    saturating: bool
    overflowed: bool = False


class _OnHost(TorchDispatchMode):
    def __init__(self, device: _Device) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = any(_on_npu(one) for one in tensors)
        device = kwargs.get("device")
        made_here = device is not None and torch.device(device).type == "npu"
        packet = func.overloadpacket
        if (
            not (here or made_here)
            or packet in _OF_TORCH_NPU
            or func.is_view
            or (packet in _COPIES and _plain(func, args, kwargs))
        ):
            return func(*args, **kwargs)
        if func.namespace == "npu":
            return self._of_npu(func, args)
        if func.namespace not in ("aten", "prims"):
            raise NotImplementedError(f"The stub's device does not compute {func}.")
        if packet not in _COPIES | _INDEXING:
            for one in tensors:
                if not _on_npu(one) and one.dim():
                    raise RuntimeError(f"{func}: expected all tensors on the same device")
        return self._compute(func, args, kwargs, made_here or (here and device is None))

    def _compute(self, func: Any, args: Any, kwargs: dict[str, Any], to_npu: bool) -> Any:
        lent: dict[int, tuple[Tensor, Tensor]] = {}

        def lend(tensor: Tensor) -> Tensor:
            if not _on_npu(tensor):
                return tensor
            alias = _on_host(tensor)
            lent[id(alias)] = (alias, tensor)
            return alias

        def take(result: Tensor) -> Tensor:
            if self._device.saturating and result.dtype == torch.float16:
                self._saturate(result)
            if id(result) in lent:
                return lent[id(result)][1]
            return _to_npu(result) if to_npu else result

        torch.npu.synchronize()  # copies are queued
        args, kwargs = tree_map_only(Tensor, lend, (args, kwargs))
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        with _drawing(func, kwargs):
            results = _OWN.get(func.overloadpacket, func)(*args, **kwargs)
        return tree_map_only(Tensor, take, results)

    def _saturate(self, values: Tensor) -> None:
        beyond = ~values.isfinite()
        if bool(beyond.any()):
            self._device.overflowed = True
            values.nan_to_num_(nan=0.0, posinf=_HALF, neginf=-_HALF)

    def _of_npu(self, func: Any, args: Any) -> Any:
        packet = func.overloadpacket
        if packet == npu.npu_format_cast:
            return _cast_format(*args)
        if packet == npu.npu_get_float_status:
            _on_host(args[0]).fill_(float(self._device.overflowed))
            return args[0]
        if packet == npu.npu_clear_float_status:
            self._device.overflowed = False
            return args[0]
        raise NotImplementedError(f"The stub's device does not compute {func}.")


def _on_npu(tensor: Tensor) -> bool:
    return tensor.device.type == "npu"


def _cast_format(tensor: Tensor, number: int) -> Tensor:
    """In a format as torch_npu grants it; the values lie in memory as in a plain tensor."""
    torch.npu.synchronize()
    made: Tensor = npu.unsafe_empty_with_format(
        tensor.shape, dtype=tensor.dtype, device=tensor.device, acl_format=number
    )
    _on_host(made).copy_(_on_host(tensor))
    return made


def _in_plain_format(tensor: Tensor) -> bool:
    if not _on_npu(tensor):
        return True
    try:
        return npu.get_npu_format(tensor) in _PLAIN
    except RuntimeError:  # torch itself made the storage: it has no format
        return True


def _plain(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a copy only moves bytes between host and device, which takes torch_npu no kernel."""
    if not all(map(_in_plain_format, args[:2])):
        return False
    if func.overloadpacket is aten.copy_:
        to, source = args[:2]
        return (
            to.device != source.device
            and to.dtype == source.dtype
            and to.shape == source.shape
            and to.is_contiguous()
            and source.is_contiguous()
        )
    if func.overloadpacket is aten._to_copy:
        (source,) = args
        return (
            kwargs.get("device") is not None
            and torch.device(kwargs["device"]).type != source.device.type
            and kwargs.get("dtype") in (None, source.dtype)
            and kwargs.get("memory_format") in (None, torch.preserve_format)
            and source.is_contiguous()
        )
    return False


def _on_host(tensor: Tensor) -> Tensor:
    """The same memory, as a tensor of the CPU."""
    storage = tensor.untyped_storage()
    if not storage.nbytes():
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    memory = (ctypes.c_byte * storage.nbytes()).from_address(storage.data_ptr())
    alias = torch.empty(0, dtype=tensor.dtype)
    alias.set_(
        torch.frombuffer(memory, dtype=torch.uint8).untyped_storage(),
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
    )
    return alias


def _to_npu(result: Tensor) -> Tensor:
    made = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device="npu")
    _on_host(made).copy_(result)
    return made


def _matmul_backward(
    grad: Tensor, one: Tensor, other: Tensor, wanted: list[bool]
) -> tuple[Tensor | None, ...]:
    """torch_npu differentiates `matmul` as a whole, the CPU what it is composed of."""
    autograd = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality)
    included, excluded = (
        torch._C._dispatch_tls_local_include_set(),
        torch._C._dispatch_tls_local_exclude_set() - autograd,
    )
    with torch._C._ForceDispatchKeyGuard(included, excluded), torch.enable_grad():
        factors = one.detach().requires_grad_(), other.detach().requires_grad_()
        grads = torch.autograd.grad(torch.matmul(*factors), factors, grad)
    return tuple(
        value.detach() if asked else None for value, asked in zip(grads, wanted, strict=True)
    )


_OWN = {aten.matmul_backward: _matmul_backward}
"""Operators that the CPU has no kernel of."""


@contextmanager
def _drawing(func: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """Draw random numbers that the device's generator decides: its seed and its offset."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        yield
        return
    given = kwargs.pop("generator", None)
    generator = given or torch.npu.default_generators[torch.npu.current_device()]
    before = torch.get_rng_state()
    offset = generator.get_offset()
    generator.set_offset(offset + 4)
    torch.default_generator.manual_seed(hash((generator.initial_seed(), offset)) % 2**63)
    try:
        yield
    finally:
        torch.set_rng_state(before)
