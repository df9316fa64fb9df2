"""Gloo over all ranks alike, and a way to end it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_nccl_ring.errors import ClosedError
from ds_nccl_ring.roll_call import roll_call

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import ProcessGroupGloo, Store, Work
    from torch.futures import Future

    from ds_nccl_ring.failure import Failure
    from ds_nccl_ring.reduction import Reduction

GRACE = 3.0
"""Seconds that a failed operation waits for the reason."""

_DESCRIPTORS = Path("/proc/self/fd")


class Flat:
    """A gloo group whose sockets are known.

    Gloo's own abort does not end an operation that waits for a dead rank; the end of its sockets
    does.

    Args:
        store: A prefix of its own.
        rank: This one.
        size: How many.
        address: The IP address that gloo binds to.
        failure: Ends the operations, and says why they failed.
        timeout: Seconds.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        address: str,
        failure: Failure,
        timeout: float,
    ) -> None:
        import torch.distributed as dist

        kind: Any = dist.ProcessGroupGloo  # not all of it is in torch's stubs
        options = kind._Options()
        options._timeout = timedelta(seconds=timeout)
        before = set(_sockets())
        options._devices = [kind.create_device(hostname=address)]
        doors = [ends[0] for ends in _opened(before).values() if len(ends) == 1]
        said = roll_call(store, "doors", rank, size, doors, timeout=timeout)
        places = {tuple(place) for places in said for place in places}
        self.group: ProcessGroupGloo = kind(store, rank, size, options)
        # Other threads may have opened some, too: gloo's have one end where a rank listens. What
        # listens itself stays: gloo aborts the process where that is shut down.
        self._sockets = {
            inode for inode, ends in _opened(before).items() if len(ends) > 1 and places & {*ends}
        }
        self._failure = failure
        self._pending: set[Any] = set()
        failure.on_failure(self._cut)

    def run(self, call: Callable[[Any], Work], finish: Callable[[Any], Any]) -> Future[Any]:
        """Start an operation.

        Args:
            call: Starts it in the group given.
            finish: Makes the future's value out of the work's.
        """
        import torch

        result: Future[Any] = torch.futures.Future()
        if self._failure.error is not None:
            result.set_exception(self._failure.error)
            return result
        try:
            work = call(self.group)
        except RuntimeError:
            if self._failure.error is None:
                raise
            result.set_exception(self._failure.error)
            return result

        def settle(wait: Callable[[], Any]) -> None:
            try:
                result.set_result(finish(wait()))
            except Exception as error:
                # A rank that is gone resets gloo's connections before the watch has the news.
                self._failure.wait(GRACE)
                result.set_exception(self._failure.error or error)
            self._pending.discard(work)

        self._pending.add(work)
        try:
            future = work.get_future()
        except RuntimeError:  # some of gloo's operations have none
            threading.Thread(target=settle, args=(work.wait,), daemon=True).start()
        else:
            future.add_done_callback(lambda done: settle(done.value))
        return result

    def all_reduce(self, tensor: Tensor, reduction: Reduction) -> Future[Tensor]:
        """Reduce in place; sparse tensors and those with gaps too."""
        import torch
        from torch._C._distributed_c10d import AllreduceOptions

        dense = tensor.is_sparse or tensor.is_contiguous()
        values = tensor if dense else tensor.contiguous()
        options = AllreduceOptions()
        options.reduceOp = _reduce_op(reduction)

        def start(flat: Any) -> Any:
            if reduction.divisor != 1:
                with torch.inference_mode():
                    values.detach().div_(reduction.divisor)
            return flat.allreduce([values], options)

        def finish(_: Any) -> Tensor:
            if values is not tensor:
                with torch.inference_mode():
                    tensor.detach().copy_(values)
            return tensor

        return self.run(start, finish)

    def all_gather(self, output: Tensor, input: Tensor) -> Future[Tensor]:
        """Concatenate along the first dimension."""
        values = input.contiguous()
        return self.run(lambda flat: flat._allgather_base(output, values), lambda _: output)

    def reduce_scatter(self, output: Tensor, input: Tensor, reduction: Reduction) -> Future[Tensor]:
        """Reduce, and keep this rank's share along the first dimension."""
        from torch._C._distributed_c10d import ReduceScatterOptions

        values = input.detach() if reduction.divisor == 1 else input.detach() / reduction.divisor
        values = values.contiguous()
        options = ReduceScatterOptions()
        options.reduceOp = _reduce_op(reduction)
        return self.run(
            lambda flat: flat._reduce_scatter_base(output, values, options), lambda _: output
        )

    def _cut(self) -> None:
        """End all of gloo's connections, unless all is done and only the group is closed."""
        if isinstance(self._failure.error, ClosedError) and not self._pending:
            return
        for inode, descriptor in _sockets().items():
            if inode in self._sockets:
                with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
                    # The number may mean another file by now.
                    if os.fstat(copy.fileno()).st_ino == inode:
                        copy.shutdown(socket.SHUT_RDWR)


def _reduce_op(reduction: Reduction) -> Any:
    from torch._C._distributed_c10d import ReduceOp

    names = {"sum": "SUM", "avg": "SUM", "product": "PRODUCT", "min": "MIN", "max": "MAX"}
    return getattr(ReduceOp, names[reduction.op])


def _opened(before: set[int]) -> dict[int, list[tuple[str, int]]]:
    """The IP sockets that are new, by inode: where their ends are, only one if they listen."""
    found = {}
    for inode, descriptor in _sockets().items():
        if inode in before:
            continue
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
            if copy.family == socket.AF_UNIX:
                continue
            ends = [copy.getsockname()[:2]]
            if not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ends.append(copy.getpeername()[:2])
            found[inode] = ends
    return found


def _sockets() -> dict[int, int]:
    """This process's sockets: inode to descriptor."""
    found = {}
    for entry in _DESCRIPTORS.iterdir():
        with suppress(OSError):
            kind, _, inode = str(entry.readlink()).partition(":")
            if kind == "socket":
                found[int(inode.strip("[]"))] = int(entry.name)
    return found
