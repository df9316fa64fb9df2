"""Tensors of the device, and the host memory that their values are in.

A device tensor is a plain `torch.Tensor` made in C++. Its storage has the device's name, the right
size and, as on real devices, an address that the host cannot read: code that computes past the
device's kernels crashes instead of pretending. The bytes are in a CPU storage, which the storage's
Python object refers to; torch keeps that object for as long as the storage lives, however many
views, parameters and autograd nodes share it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet

from ds_core.testing.simulated.memory import Memory

CPU = DispatchKeySet(DispatchKey.CPU)
_AUTOCAST_CPU = DispatchKeySet(DispatchKey.AutocastCPU)
_UNREADABLE = 1 << 62  # no 64-bit processor maps an address with this bit alone among the highest

# The CPU's kernels themselves, at which no mode, autocast or default device of the caller arrives.
_empty = torch.ops.aten.empty.memory_format.redispatch
_set = torch.ops.aten.set_.source_Storage_storage_offset.redispatch

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])


class undisturbed:
    """Within, what the caller has set up for CPU tensors does not reach the host's computing.

    A class, as `contextlib.contextmanager` would double what a kernel costs.
    """

    def __enter__(self) -> None:
        self._function: Any = torch._C.DisableTorchFunction()
        self._autocast: Any = torch._C._ExcludeDispatchKeyGuard(_AUTOCAST_CPU)
        self._function.__enter__()
        self._autocast.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *exception: object) -> None:
        self._autocast.__exit__(*exception)
        self._function.__exit__(*exception)


def untraced(kernel: _Kernel) -> _Kernel:
    """Keep `torch.compile` from tracing a kernel, or whatever it calls, when it is run."""
    frames: Any = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    code = kernel.__code__
    frames.set_code_exec_strategy(code, frames._FrameExecStrategy(skip, skip))
    return kernel


class DeviceTensors:
    """Makes tensors of one device and finds their values.

    Args:
        device: The device, with its index.
        memory: Where their bytes are counted.

    Attributes:
        missing: Dtypes that the device lacks.
    """

    def __init__(self, device: torch.device, memory: Memory) -> None:
        self.device = device
        self.memory = memory
        self.missing: frozenset[torch.dtype] = frozenset()
        self._at = weakref.WeakValueDictionary[int, torch.UntypedStorage]()

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor has its values in the device's memory; a tracer's has none."""
        return tensor.device == self.device and self._storage_of(tensor) is not None

    def _storage_of(self, tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if hasattr(storage, "_host"):
            return storage
        try:  # pickling makes a storage of its own of nothing but our address
            return self._at.get(storage.data_ptr())
        except RuntimeError:
            return None

    def storage(self, host: torch.UntypedStorage) -> torch.UntypedStorage:
        """A storage of the device over the bytes of `host`.

        Raises:
            torch.OutOfMemoryError: They do not fit the device.
        """
        size = host.nbytes()
        address = host.data_ptr() | _UNREADABLE if size else 0
        made: Any = torch._C._construct_storage_from_data_pointer(address, self.device, size)
        made._host = host
        if size:
            self._at[address] = made
            self.memory.take(size)
            weakref.finalize(made, self.memory.give_back, size).atexit = False
        return made  # type: ignore[no-any-return]

    def tensor(
        self,
        storage: torch.UntypedStorage,
        dtype: torch.dtype,
        offset: int | torch.SymInt,
        size: Sequence[int],
        stride: Sequence[int],
    ) -> Tensor:
        """A tensor of the device on `storage`, one that `storage()` returned."""
        made = torch._C._acc.create_empty_tensor((0,), dtype)
        _set(CPU, made, storage, offset, size, stride)
        return made

    def adopt(self, host: Tensor) -> Tensor:
        """A new tensor of the device over the very bytes of a CPU tensor.

        Raises:
            NotImplementedError: It is sparse, quantized or otherwise no plain array.
            RuntimeError: The device lacks its dtype.
            torch.OutOfMemoryError: It does not fit the device.
        """
        if host.dtype in self.missing:
            raise RuntimeError(f"The {self.memory.name} does not support {host.dtype}.")
        if host.layout is not torch.strided or host.is_quantized or host.is_nested:
            raise NotImplementedError(
                f"The {self.memory.name} has only dense tensors, no {host.layout} ones."
            )
        return self.tensor(
            self.storage(host.untyped_storage()),
            host.dtype,
            host.storage_offset(),
            host.size(),
            host.stride(),
        )

    def host(self, tensor: Tensor) -> Tensor:
        """The values of a device tensor: a CPU tensor of its geometry over its bytes."""
        return _set(  # type: ignore[no-any-return]
            CPU,
            _empty(CPU, [0], dtype=tensor.dtype),
            self._storage_of(tensor)._host,
            tensor.storage_offset(),
            tensor.size(),
            tensor.stride(),
        )

    def follow(self, tensor: Tensor, host: Tensor) -> None:
        """Give a device tensor the geometry that an operation gave its `host`."""
        storage = self._storage_of(tensor)
        grown = host.untyped_storage()
        if storage._host is not grown or storage.nbytes() != grown.nbytes():
            storage = self.storage(grown)
        _set(CPU, tensor, storage, host.storage_offset(), host.size(), host.stride())
