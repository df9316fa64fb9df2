"""The two levels over torch's own process groups: NCCL on GPUs, any other backend elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_nccl_ring.plan import FLAT_BELOW, Algorithm, TopologyPlan, Wire
from ds_nccl_ring.selector import Calibration, calibrate, candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import torch
    from torch import Tensor
    from torch.futures import Future

    from ds_nccl_ring.placement import Placement


class ProcessGroupLegs:
    """Reduce-scatter inside a host, all-reduce between hosts, all-gather inside the host.

    Each rank carries its share of the tensor to the ranks of the same place on other hosts. On a
    GPU everything is queued on a stream of its own; elsewhere on a thread of its own.

    Args:
        placement: Of the default process group's ranks.
        wire: `float32` sends tensors as they are, `bfloat16` rounds what goes between hosts.
        chunk_bytes: Kept in the plan; torch's backends cut tensors up themselves.
        device: Where tensors are.
        calibrate: Time the algorithms at the first large all-reduce.

    Attributes:
        placement: As given.
        plan: What is used for each size.
        calibration: What was timed; None before.

    Raises:
        RefusedError: The wire format is not one that torch's backends can sum.
    """

    def __init__(
        self,
        placement: Placement,
        *,
        wire: Wire,
        chunk_bytes: int,
        device: torch.device,
        calibrate: bool = True,
    ) -> None:
        import torch.distributed as dist

        if wire == "int8":
            raise RefusedError(
                f"int8 cannot be summed between hosts by {dist.get_backend()}.",
                mend='Take wire="bfloat16" or "float32" on GPUs.',
            )
        self.placement = placement
        plan = TopologyPlan.of(placement, legs="process-groups", wire=wire, chunk_bytes=chunk_bytes)
        sizes = {len(host.ranks) for host in placement.hosts}
        gains = sizes != {1} or wire != "float32"
        self._two_levels = len(sizes) == 1 and len(placement.hosts) > 1 and gains
        if not self._two_levels:
            plan = plan.model_copy(update={"algorithms": ((0, "flat"),)})
        self.plan: TopologyPlan = plan
        self.calibration: Calibration | None = None
        self.bytes_sent: dict[str, int] = {}
        self._calibrate = calibrate and self._two_levels
        self._device = device
        self._inside: Any = None
        self._across: Any = None
        self._groups: list[Any] = []
        if self._two_levels:
            me = dist.get_rank()
            hosts = [list(host.ranks) for host in placement.hosts]
            for ranks in hosts:  # every rank makes every group, as torch demands
                group = dist.new_group(ranks)
                self._inside = group if me in ranks else self._inside
                self._groups.append(group)
            for rail in map(list, zip(*hosts, strict=True)):
                group = dist.new_group(rail)
                self._across = group if me in rail else self._across
                self._groups.append(group)
        self._stream = _stream(device)
        self._thread = None if self._stream else ThreadPoolExecutor(1, "ds-ring")

    def reduce_tensor(
        self, tensor: Tensor, op: str = "sum", *, key: Hashable | None = None
    ) -> Future[Tensor]:
        """All-reduce in place by the algorithm for its size; timed first if nothing was yet.

        Args:
            tensor: Contiguous.
            op: `sum` or `avg`.
            key: Not used: what is rounded here is not remembered.
        """
        if self._calibrate and tensor.nbytes >= FLAT_BELOW:
            self._calibrate = False
            self._take_times()
        return self.all_reduce(tensor, op)

    def all_reduce(
        self, tensor: Tensor, op: str = "sum", *, algorithm: Algorithm | None = None
    ) -> Future[Tensor]:
        """All-reduce in place; `algorithm` None takes the plan's for the tensor's size."""
        import torch

        name = algorithm or self.plan.algorithm(tensor.nbytes)
        if not self._two_levels:
            name = "flat"
        made: Future[Tensor]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(tensor.device))
            made = torch.futures.Future(devices=[tensor.device])
            with torch.cuda.stream(self._stream):
                self._reduce(tensor, op, name)
                tensor.record_stream(self._stream)
                made.set_result(tensor)  # whoever waits, waits for this stream
            return made
        made = torch.futures.Future()

        def work() -> None:
            try:
                self._reduce(tensor, op, name)
            except Exception as error:
                made.set_exception(error)  # type: ignore[arg-type]
            else:
                made.set_result(tensor)

        assert self._thread is not None
        self._thread.submit(work)
        return made

    def close(self) -> None:
        """Destroy the groups made here."""
        import torch.distributed as dist

        if self._thread is not None:
            self._thread.shutdown()
        for group in self._groups:
            if group != dist.GroupMember.NON_GROUP_MEMBER and dist.is_initialized():
                dist.destroy_process_group(group)
        self._groups = []

    def _reduce(self, tensor: Tensor, op: str, name: Algorithm) -> None:
        import torch
        import torch.distributed as dist

        with torch.inference_mode():  # the tensor may be made under it
            if op == "avg":  # first, so that half precision does not overflow
                tensor.div_(self.placement.size)
            if name == "flat":
                dist.all_reduce(tensor)
            else:
                self._reduce_in_levels(tensor, name == "hierarchical-bfloat16")

    def _reduce_in_levels(self, tensor: Tensor, rounded: bool) -> None:
        import torch
        import torch.distributed as dist

        rails = self.plan.rails
        whole = tensor.view(-1)
        over = -whole.numel() % rails
        if over:
            whole = torch.cat([whole, whole.new_zeros(over)])
        share = whole.new_empty(whole.numel() // rails)
        dist.reduce_scatter_tensor(share, whole, group=self._inside)
        if rounded and share.dtype == torch.float32:
            narrow = share.to(torch.bfloat16)
            dist.all_reduce(narrow, group=self._across)
            share.copy_(narrow)
        else:
            dist.all_reduce(share, group=self._across)
        dist.all_gather_into_tensor(whole, share, group=self._inside)
        if over:
            tensor.view(-1).copy_(whole[:-over])

    def _take_times(self) -> None:
        import torch
        import torch.distributed as dist

        settle: Callable[[], None] = (
            (lambda: torch.cuda.synchronize(self._device)) if self._stream else (lambda: None)
        )

        def reduce(tensor: Tensor, name: Algorithm) -> None:
            self.all_reduce(tensor, algorithm=name).wait()
            settle()

        def agree(times: list[float]) -> list[float]:
            slowest = torch.tensor(times, dtype=torch.float64, device=self._device)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            return list(map(float, slowest))

        found = calibrate(reduce, agree, candidates(self.plan), device=str(self._device))
        self.calibration = found
        self.plan = self.plan.model_copy(update={"algorithms": found.algorithms})


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    import torch

    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
