"""The device's collective library: gloo on the host memory of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

REDUCE_OPS = ("sum", "avg", "min", "max", "product")
"""What gloo can reduce floating-point tensors by."""

_COLLECTIVES = {
    **{
        name: name
        for name in (
            *("allgather", "allgather_coalesced", "allreduce", "allreduce_coalesced", "alltoall"),
            *("barrier", "broadcast", "gather", "reduce", "reduce_scatter", "scatter"),
            *("recv", "recv_anysource", "send"),
        )
    },
    # torch is renaming these: gloo answers to the old names, users call either.
    "_allgather_base": "_allgather_base",
    "all_gather_single": "_allgather_base",
    "_reduce_scatter_base": "_reduce_scatter_base",
    "reduce_scatter_single": "_reduce_scatter_base",
    "alltoall_base": "alltoall_base",
    "all_to_all_single": "alltoall_base",
}
"""Methods of a process group, and gloo's name for each."""


def install(device: SimulatedDevice, name: str) -> None:
    """Register it under `name`, and as what the device uses by default."""
    if not (dist.is_available() and dist.is_gloo_available()):
        return

    def create(store: Any, rank: int, size: int, timeout: timedelta) -> dist.ProcessGroup:
        return _process_group(device, name, store, rank, size, timeout)

    # A name that torch knows of its own (hccl for hpu) stands in the table already.
    dist.Backend.register_backend(name, create, devices=[device.name])


def _process_group(
    device: SimulatedDevice,
    name: str,
    store: Any,
    rank: int,
    size: int,
    timeout: timedelta,
) -> dist.ProcessGroup:
    gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def collective(method: str) -> Callable[..., dist.Work]:
        run = getattr(gloo, method)

        def call(group: dist.ProcessGroup, *args: Any, **kwargs: Any) -> dist.Work:
            for value in (*args, *kwargs.values()):
                _check_reduction(device, name, value)
            tensors: list[Tensor] = []
            host_args = [_enter(device, value, tensors) for value in args]
            host_kwargs = {key: _enter(device, value, tensors) for key, value in kwargs.items()}
            return _work(device, run(*host_args, **host_kwargs), tensors)

        return call

    kind = type(
        "SimulatedCollective",
        (dist.ProcessGroup,),
        {
            "__doc__": "A process group for tensors of the simulated device alone.",
            "getBackendName": lambda group: name,
            **{method: collective(gloos) for method, gloos in _COLLECTIVES.items()},
        },
    )
    group: dist.ProcessGroup = kind(rank, size)
    group._register_backend(device.torch_device, dist.ProcessGroup.BackendType.CUSTOM, gloo)
    group._set_default_backend(dist.ProcessGroup.BackendType.CUSTOM)
    return group


def _enter(device: SimulatedDevice, value: Any, found: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        if not device.tensors.owns(value):
            raise RuntimeError(f"No backend type associated with device type {value.device.type}")
        found.append(value)
        return device.tensors.host(value)
    if isinstance(value, list | tuple):
        return [_enter(device, item, found) for item in value]
    return value


def _check_reduction(device: SimulatedDevice, name: str, value: Any) -> None:
    reduction = getattr(value, "reduceOp", value)  # options hold it, or it is given itself
    reduction = getattr(reduction, "op", reduction)
    if not isinstance(reduction, dist.ReduceOp.RedOpType):
        return
    wanted = reduction.name
    if wanted.lower() not in device.reduce_ops - device.faults.missing_reduce_ops:
        raise RuntimeError(f"Cannot use ReduceOp.{wanted} with {name.upper()}")


def _work(device: SimulatedDevice, work: dist.Work, tensors: list[Tensor]) -> dist.Work:
    """gloo's work, with the device's tensors as its result."""
    try:
        host_future = work.get_future()
    except RuntimeError:  # gloo has none for some collectives: they can be waited for, no more
        return work
    future: Any = torch.futures.Future(devices=[device.torch_device])

    def finish(done: torch.futures.Future[Any]) -> None:
        try:
            done.wait()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(tensors)

    host_future.add_done_callback(finish)
    c10d: Any = torch._C._distributed_c10d
    made: dist.Work = c10d._create_work_from_future(future)
    return made
