"""torch.distributed's backend `ds_ring`. Imports torch: only its factory comes here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store

from ds_core.errors import DsError
from ds_nccl_ring import BACKEND
from ds_nccl_ring.calibration import calibrate_group
from ds_nccl_ring.gloo_collectives import GlooCollectives, listed
from ds_nccl_ring.group import Group
from ds_nccl_ring.options import RingOptions
from ds_nccl_ring.placement import Placement, prove
from ds_nccl_ring.plan import FLAT_BELOW, TopologyPlan
from ds_nccl_ring.roll_call import roll_call
from ds_nccl_ring.selector import Calibration
from ds_nccl_ring.work import RingWork, failed

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor
    from torch.futures import Future

_CPU = torch.device("cpu")
_calibrated: dict[tuple[Any, ...], Calibration] = {}


def make(parts: Any, options: Any = None) -> RingProcessGroup:
    """A process group, as torch asks for one with its extended interface.

    Args:
        parts: torch's `_DistributedBackendOptions`: store, rank, size, timeout, name.
        options: `RingOptions`, or None to read the environment.

    Raises:
        DsError: The environment has a wrong value, ranks differ or did not arrive.
    """
    options = options if isinstance(options, RingOptions) else RingOptions.from_environment()
    return RingProcessGroup(
        parts.store,
        parts.group_rank,
        parts.group_size,
        options,
        timeout=parts.timeout.total_seconds(),
        name=parts.group_id,
    )


class RingProcessGroup(GlooCollectives):
    """All of torch's collectives over one `Group`, in the order in which they are called.

    All-reduces go by the algorithm that the plan has for their size. All-gathers of 64 KiB and more
    and reduce-scatters go through memory and, between hosts, by a direct exchange, where hosts have
    as many ranks each. The rest goes through gloo.

    Args:
        store: The group's own.
        rank: In this group.
        size: Of this group.
        options: All ranks' alike.
        timeout: Seconds that any rank waits for another.
        name: Tells groups in one store apart.

    Attributes:
        placement: Which ranks share a host.
        group: What carries the collectives.
        calibration: What was timed; None before the first large all-reduce.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        options: RingOptions,
        *,
        timeout: float,
        name: str = "",
    ) -> None:
        super().__init__(rank, size)
        self.placement: Placement = prove(
            PrefixStore("placement", store), rank, size, timeout=timeout
        )
        plan = TopologyPlan.of(self.placement, wire=options.wire, chunk_bytes=options.chunk_bytes)
        plan.check_alike(PrefixStore("plan", store), rank, size, timeout)
        self.group: Group = Group(
            PrefixStore("group", store),
            rank,
            size,
            self.placement,
            plan,
            timeout=timeout,
            name=name,
        )
        self.calibration: Calibration | None = None
        self._store = PrefixStore("calibration", store)
        self._timeout = timeout
        self._calibrate = options.calibrate and size > 1
        # What is not overridden here, as sending to one rank, torch looks up by device.
        self._gloo: Any = self.group.flat
        self._register_backend(_CPU, dist.ProcessGroup.BackendType.GLOO, self._gloo)
        self._set_default_backend(dist.ProcessGroup.BackendType.GLOO)

    @property
    def plan(self) -> TopologyPlan:
        """What is used for each size."""
        plan: TopologyPlan = self.group.plan
        return plan

    @property
    def bytes_sent(self) -> dict[str, int]:
        """To each host, over the group's own sockets."""
        sent: dict[str, int] = self.group.bytes_sent
        return sent

    def getBackendName(self) -> str:
        return BACKEND

    # Reductions

    def reduce_tensor(
        self, tensor: Tensor, op: str = "sum", *, key: Hashable | None = None
    ) -> Future[Tensor]:
        """All-reduce in place by the algorithm for its size; timed first if nothing was yet.

        Args:
            tensor: Of any dtype.
            op: `sum`, `avg`, `product`, `min` or `max`.
            key: What the tensor is, the same in each step; where numbers are rounded between
                hosts, what rounding took is added at the next time.
        """
        if self._calibrate and tensor.nbytes >= FLAT_BELOW:
            self._calibrate = False
            try:
                self._take_times()
            except DsError as error:
                return failed(error)
        return self.group.all_reduce(tensor, op, key=key)

    def allreduce(self, tensors: Any, opts: Any = None, timeout: Any = None) -> RingWork:
        tensors = listed(tensors)
        op = _operation(opts)
        if op is None or any(tensor.is_sparse for tensor in tensors):
            return self._flat(lambda gloo: gloo.allreduce(tensors, opts), tensors)
        return RingWork([self.reduce_tensor(tensor, op) for tensor in tensors], tensors)

    def allreduce_coalesced(self, tensors: list[Tensor], opts: Any = None) -> RingWork:
        op = _operation(opts)
        if op is None:
            return self._flat(lambda gloo: gloo.allreduce_coalesced(tensors, opts), tensors)
        return RingWork([self.reduce_tensor(tensor, op) for tensor in tensors], tensors)

    def reduce_scatter_single(self, output: Tensor, input: Tensor, opts: Any = None) -> RingWork:
        return RingWork([self._scattered(output, input, opts)], [output])

    _reduce_scatter_base = reduce_scatter_single

    def reduce_scatter_single_coalesced(
        self, outputs: list[Tensor], inputs: list[Tensor], opts: Any = None
    ) -> RingWork:
        pairs = zip(outputs, inputs, strict=True)
        return RingWork([self._scattered(out, one, opts) for out, one in pairs], outputs)

    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced

    def reduce_scatter(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> RingWork:
        outputs = listed(outputs)
        groups = [inputs] if isinstance(inputs[0], torch.Tensor) else inputs
        if any(
            one.shape != out.shape
            for out, ones in zip(outputs, groups, strict=True)
            for one in ones
        ):
            return self._flat(lambda gloo: gloo.reduce_scatter(outputs, groups, opts), outputs)
        futures = [
            self._scattered(out, torch.cat([one.reshape(-1) for one in ones]), opts)
            for out, ones in zip(outputs, groups, strict=True)
        ]
        return RingWork(futures, outputs)

    def _scattered(self, output: Tensor, input: Tensor, opts: Any) -> Future[Any]:
        op = _operation(opts)
        if op is not None and output.is_contiguous():
            return self.group.reduce_scatter(output.view(-1), input.reshape(-1), op)
        return self.group.run_flat(
            lambda gloo: gloo._reduce_scatter_base(output, input.contiguous(), opts)
        )

    # Gathering

    def all_gather_single(self, output: Tensor, input: Tensor, opts: Any = None) -> RingWork:
        return RingWork([self._gathered(output, input)], [output])

    _allgather_base = all_gather_single

    def all_gather_single_coalesced(
        self, outputs: list[Tensor], inputs: list[Tensor], opts: Any = None
    ) -> RingWork:
        pairs = zip(outputs, inputs, strict=True)
        return RingWork([self._gathered(out, one) for out, one in pairs], outputs)

    allgather_into_tensor_coalesced = all_gather_single_coalesced

    def allgather(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> RingWork:
        inputs = listed(inputs)
        groups = [outputs] if isinstance(outputs[0], torch.Tensor) else outputs
        flat = [out for outs in groups for out in outs]
        like = inputs[0]
        alike = all(out.shape == like.shape and out.dtype == like.dtype for out in flat)
        if (
            len(inputs) != 1
            or not alike
            or like.is_sparse
            or like.nbytes * self.size() < FLAT_BELOW
        ):
            return self._flat(lambda gloo: gloo.allgather(groups, inputs), flat)
        whole = like.new_empty(self.size() * like.numel())

        @torch.inference_mode()
        def spread() -> None:
            for out, part in zip(flat, whole.chunk(self.size()), strict=True):
                out.copy_(part.view(like.shape))

        return RingWork([self._gathered(whole, like)], flat, finish=spread)

    def _gathered(self, output: Tensor, input: Tensor) -> Future[Any]:
        if not output.is_contiguous():
            return self.group.run_flat(lambda gloo: gloo._allgather_base(output, input))
        whole, part = output.view(-1), input.reshape(-1)
        if self._large(output):
            return self.group.all_gather(whole, part)
        return self.group.run_flat(lambda gloo: gloo._allgather_base(whole, part))

    # Life

    def shutdown(self) -> None:
        """Say goodbye to the other ranks and close everything."""
        self.group.close()

    def abort(self) -> None:
        self.shutdown()

    def _large(self, tensor: Tensor) -> bool:
        return tensor.nbytes >= FLAT_BELOW and not tensor.is_sparse

    def _take_times(self) -> None:
        plan = self.group.plan
        shape = (tuple(len(ranks) for _, ranks in plan.hosts), plan.wire, plan.chunk_bytes)
        # Ranks of one group may have been in different ones before: the first to know decides.
        mine = _calibrated.get(shape)
        said = roll_call(
            self._store,
            "known",
            self.rank(),
            self.size(),
            mine.as_json() if mine else None,
            timeout=self._timeout,
        )
        known = next((one for one in said if one is not None), None)
        found = Calibration.from_json(known) if known else calibrate_group(self.group)
        self.calibration = _calibrated[shape] = found
        self.group.plan = plan.model_copy(update={"algorithms": found.algorithms})


def _operation(opts: Any) -> str | None:
    """The name that `Group` knows a reduction by, or None where it knows none."""
    asked = getattr(opts, "reduceOp", dist.ReduceOp.SUM if opts is None else opts)
    for name in ("sum", "avg", "product", "min", "max"):
        # Compared one by one: `in` finds none of them, as they are equal but hash otherwise.
        if asked == getattr(dist.ReduceOp, name.upper()):
            return name
    return None
