"""The device's kernels: one wherever the CPU has one, so that both dispatch alike.

Each computes on the host memory of its arguments with the CPU's kernel of the same name. Operations
that torch composes of others are composed for this device as for the CPU, which makes results equal
bit for bit. An operation without a kernel fails as on any device: torch says that it "could not
run".
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from ds_core.testing.simulated.tensors import CPU, undisturbed, untraced

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

aten = torch.ops.aten

_ON_METADATA = (
    *("view", "view.dtype", "view_as_real", "view_as_complex", "as_strided", "_reshape_alias"),
    *("unfold", "set_.source_Storage", "set_.source_Storage_storage_offset", "set_.source_Tensor"),
    *("is_set_to",),
)
"""Kernels of the CPU that touch no values and do not ask for the device."""

_NOT_DENSE = ("mkldnn", "quantize", "nested", "sparse", "_efficientzerotensor", "from_file")
"""Parts of names of kernels whose tensors are no plain arrays in memory."""

_INDEXING = ("index", "_unsafe_index", "index_put", "_index_put_impl")
"""Operations whose indices, their second argument, may be on the CPU."""

_NOTHING = contextlib.nullcontext()


def install(device: SimulatedDevice, library: torch.library.Library) -> None:
    """Register all kernels of `device` with torch's dispatcher."""
    own: dict[str, Callable[..., Any]] = {
        "_copy_from": functools.partial(_copy, device),
        "record_stream": _no_streams,
        "resize_": functools.partial(_resize, device),
        "set_": functools.partial(_clear, device),
        "convolution_overrideable": _kernel(device, aten.convolution.default),
        "convolution_backward_overrideable": _kernel(
            device, aten.convolution_backward.default, _convolution_backward
        ),
    }
    for name, op in _with_cpu_kernel():
        if name not in own and not any(part in name for part in _NOT_DENSE):
            if name in _ON_METADATA:
                own[name] = functools.partial(op.redispatch, CPU)
            elif any(argument.name == "device" for argument in op._schema.arguments):
                own[name] = _factory(device, op)
            else:
                own[name] = _kernel(device, op)
    for name, kernel in own.items():
        library.impl(name, kernel, "PrivateUse1")  # type: ignore[no-untyped-call]
    for key in ("PrivateUse1", "AutogradPrivateUse1"):
        library.impl(  # type: ignore[no-untyped-call]
            "_has_compatible_shallow_copy_type", functools.partial(_may_replace, device), key
        )


def _with_cpu_kernel() -> Iterable[tuple[str, OpOverload]]:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for full in torch._C._dispatch_get_all_op_names():
        if full.startswith("aten::") and has_kernel(full, "CPU"):
            name = full.removeprefix("aten::")
            packet, _, overload = name.partition(".")
            yield name, getattr(getattr(aten, packet), overload or "default")


def _kernel(
    device: SimulatedDevice, op: OpOverload, compute: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """A kernel that calls `compute`, or `op`, with host tensors and returns device tensors."""
    # Not the CPU's kernel itself: it would not take the numbers that torch hands over for tensors.
    compute = compute or op
    arguments = op._schema.arguments
    seeded = any(argument.name == "generator" for argument in arguments)
    random = torch.Tag.nondeterministic_seeded in op.tags and not seeded
    written = {argument.name: i for i, argument in enumerate(arguments) if argument.is_write}
    indexing = op._schema.name.removeprefix("aten::").rstrip("_") in _INDEXING

    @untraced
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with undisturbed():
            targets: list[Tensor] = []
            for name, i in written.items():
                _collect(kwargs.get(name, args[i] if i < len(args) else None), targets)
            for target in targets:
                if not device.tensors.owns(target):
                    raise mismatch(device, target, op)
            call = _Call(device, op)
            host_args = [call.enter(value, indexing and i == 1) for i, value in enumerate(args)]
            host_kwargs = {name: call.enter(value) for name, value in kwargs.items()}
            if seeded:
                host_kwargs["generator"] = device.random.checked(kwargs.get("generator"))
            with device.random.as_default() if random else _NOTHING:
                result = compute(*host_args, **host_kwargs)
            for target in targets:
                call.follow(target)
            return call.leave(result)

    return kernel


class _Call:
    """One call of a kernel, with the host's tensor for each of the device's."""

    def __init__(self, device: SimulatedDevice, op: OpOverload) -> None:
        self._device = device
        self._op = op
        self._entered: list[tuple[Tensor, Tensor]] = []

    def enter(self, value: Any, cpu: bool = False) -> Any:
        """`value` for the host; tensors of the CPU only if they are numbers, or where `cpu`."""
        if isinstance(value, Tensor):
            if self._device.tensors.owns(value):
                host = self._device.tensors.host(value)
                self._entered.append((value, host))
                return host
            if value.is_cpu and (value.dim() == 0 or cpu):
                return value
            raise mismatch(self._device, value, self._op)
        if isinstance(value, list | tuple):
            return [self.enter(item, cpu) for item in value]
        return value

    def follow(self, target: Tensor) -> None:
        """Bring a tensor that was written to into the shape that it was given."""
        for tensor, host in self._entered:
            if tensor is target:
                if host.size() != tensor.size() or host.stride() != tensor.stride():
                    self._device.tensors.follow(tensor, host)
                self._device.saturate(host)

    def leave(self, value: Any) -> Any:
        """`value` for the device: what was computed in place is the tensor that was given."""
        if isinstance(value, Tensor):
            for tensor, host in self._entered:
                if host is value:
                    return tensor
            self._device.saturate(value)
            return self._device.tensors.adopt(value)
        if isinstance(value, list | tuple):
            return type(value)(self.leave(item) for item in value)
        return value


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)


def mismatch(device: SimulatedDevice, value: Tensor, op: OpOverload) -> RuntimeError:
    """What torch says of a tensor that is not on the device of the others."""
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{device.torch_device} and {value.device}! (when calling {op})"
    )


def _factory(device: SimulatedDevice, op: OpOverload) -> Callable[..., Any]:
    """A kernel that makes a tensor of nothing, so that it may contain anything."""

    @untraced
    def kernel(*args: Any, **kwargs: Any) -> Tensor:
        with undisturbed():
            if kwargs["device"].index not in (None, 0):
                raise RuntimeError(
                    f"Invalid device ordinal {kwargs['device'].index}: there is one {device}."
                )
            if kwargs.get("pin_memory"):
                raise RuntimeError("Only dense CPU tensors can be pinned.")
            kwargs["device"] = torch.device("cpu")
            return device.tensors.adopt(op(*args, **kwargs))

    return kernel


# Kernels that the CPU does not have under the same name


@untraced
def _copy(device: SimulatedDevice, source: Tensor, target: Tensor, *args: Any) -> Tensor:
    with undisturbed():
        for tensor in (source, target):
            if not (tensor.is_cpu or device.tensors.owns(tensor)):
                raise mismatch(device, tensor, aten._copy_from.default)
        values = source if source.is_cpu else device.tensors.host(source)
        place = target if target.is_cpu else device.tensors.host(target)
        aten.copy_.default(place, values)
        if not target.is_cpu:
            device.saturate(place)
        return target


@untraced
def _resize(
    device: SimulatedDevice, tensor: Tensor, size: Sequence[int], memory_format: Any = None
) -> Tensor:
    with undisturbed():
        host = device.tensors.host(tensor)
        aten.resize_.default.redispatch(CPU, host, size, memory_format=memory_format)
        device.tensors.follow(tensor, host)
        return tensor


@untraced
def _clear(device: SimulatedDevice, tensor: Tensor) -> Tensor:
    with undisturbed():
        host = aten.empty.memory_format.redispatch(CPU, [0], dtype=tensor.dtype)
        device.tensors.follow(tensor, host)
        return tensor


@untraced
def _may_replace(device: SimulatedDevice, tensor: Tensor, other: Tensor) -> bool:
    """Whether `tensor.data = other` is allowed, by which modules move their parameters in place."""
    return all(
        one.layout is torch.strided and one.device.type in ("cpu", device.name)
        for one in (tensor, other)
    )


@untraced
def _no_streams(tensor: Tensor, stream: Any) -> None:
    """Memory is never used behind a stream's back: kernels are done when they return."""


@untraced
def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *options: Any) -> Any:
    *geometry, transposed, output_padding, groups, mask = options
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return aten.convolution_backward.default(
        gradient, x, weight, [channels], *geometry, transposed, output_padding, groups, mask
    )
