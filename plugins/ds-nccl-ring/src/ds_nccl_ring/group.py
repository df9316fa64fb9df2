"""A rank's share in the collectives of its group."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_nccl_ring.collectives import AllReduce, Site, shard_sizes
from ds_nccl_ring.errors import ClosedError, PeerLostError, peer_lost
from ds_nccl_ring.failure import Failure
from ds_nccl_ring.flat import Flat
from ds_nccl_ring.gathering import ALIGNED, AllGather, ReduceScatter
from ds_nccl_ring.joining import agree, join
from ds_nccl_ring.local.words import Words
from ds_nccl_ring.pipeline import Pipeline
from ds_nccl_ring.plan import wire_of
from ds_nccl_ring.reduction import Reduction, compressible, numbers, simple
from ds_nccl_ring.watch import CLOSED, LEFT, Watch
from ds_nccl_ring.wire.flow import Flow
from ds_nccl_ring.wire.formats import Format, format_named

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import ProcessGroupGloo, Store, Work
    from torch.futures import Future

    from ds_nccl_ring.placement import Placement
    from ds_nccl_ring.plan import TopologyPlan

SUSPICION = 1.0
"""Seconds that the end of a link may come before the news of why."""

_groups: set[Group] = set()


class Group:
    """All-reduce, all-gather and reduce-scatter in two levels, and whatever gloo can do beside.

    Every rank of the group makes it, and calls the same collectives in the same order. They run on
    threads; collectives in two levels complete in the order of the calls, those through gloo may
    overtake them. CPU tensors only.

    Args:
        store: Of this group alone.
        rank: In this group.
        size: Of this group.
        placement: Where its ranks are.
        plan: The same on all ranks.
        timeout: Seconds that a rank waits for another, at the start and in a collective.
        name: Tells groups in one store apart.

    Raises:
        RefusedError: A rank did not come or cannot be reached, or memory does not suffice.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        placement: Placement,
        plan: TopologyPlan,
        *,
        timeout: float = 1800.0,
        name: str = "",
    ) -> None:
        self.plan = plan
        """May be replaced, on all ranks alike; `rails` and `chunk_bytes` stay what they were."""
        self.rank = rank
        self.size = size
        self.placement = placement
        self._failure = Failure()
        self._timeout = timeout
        home = placement.host_of(rank)
        self._site = Site(
            hosts=tuple(host.ranks for host in placement.hosts),
            host=placement.hosts.index(home),
            local=home.ranks.index(rank),
            rails=plan.rails,
        )
        self._residuals: dict[Hashable, list[Tensor]] = {}
        self._failure.on_failure(self._tell)
        self._bells: list[int] = []
        self._flow: Flow | None = None
        self._pipeline: Pipeline | None = None
        self._watch: Watch | None = None
        try:
            self._join(_prefixed(store, f"ds-ring/{name}"))
        except BaseException:
            self.close()
            raise
        _groups.add(self)

    @property
    def flat(self) -> ProcessGroupGloo:
        """Gloo over all ranks of the group."""
        return self._flat.group

    @property
    def lost(self) -> dict[int, str]:
        """Which other ranks are gone, and why; empty while all live."""
        lost = {} if self._watch is None else self._watch.lost
        return {rank: why for rank, why in sorted(lost.items()) if rank != self.rank}

    @property
    def bytes_sent(self) -> dict[str, int]:
        """To each other host: bytes of tensors on this rank's own links."""
        hosts = self.placement.hosts
        counts = self._flow.bytes_sent if self._flow is not None else {}
        return {
            host.name: counts.get(number, 0)
            for number, host in enumerate(hosts)
            if number != self._site.host
        }

    def all_reduce(
        self,
        tensor: Tensor,
        op: str = "sum",
        *,
        algorithm: str | None = None,
        key: Hashable | None = None,
    ) -> Future[Tensor]:
        """Reduce over all ranks, in place.

        Args:
            tensor: Of one shape and dtype on all ranks; not to be touched until it is complete.
            op: `sum`, `avg`, `product`, `min` or `max`.
            algorithm: `flat`, `hierarchical`, `hierarchical-bfloat16` or `hierarchical-int8`; None:
                the plan's for this size. What cannot travel in two levels travels flat, and what is
                not a sum of floats of at most 32 bits travels in its own dtype.
            key: Which tensor it is of those that are reduced again and again, so that what a
                compressed format leaves out is made up for the next time; None: it is not.

        Raises:
            RefusedError: No such operation or algorithm, or a tensor that cannot take the result.
        """
        _check_place(tensor)
        reduction = Reduction(op, tensor.dtype, self.size)
        wire = wire_of(algorithm or self.plan.algorithm(tensor.numel() * tensor.element_size()))
        reals = numbers(tensor, op)
        if wire is None or reals is None or self._pipeline is None:
            return self._flat.all_reduce(tensor, reduction)
        values = reals.contiguous().view(-1)
        format = format_named(wire) if compressible(values, reduction) else None
        residuals = self._feedback(key, values, format)
        collective = AllReduce(
            self._site, tensor, reals, values, self._slot, reduction, format, residuals
        )
        return self._pipeline.submit(collective)

    def all_gather(self, output: Tensor, input: Tensor) -> Future[Tensor]:
        """Concatenate all ranks' `input` in `output` along the first dimension, in their order.

        Raises:
            RefusedError: `output` is not contiguous, or not as large as all inputs.
        """
        _check_output(output)
        _check_sizes(output, input, self.size, "gathered")
        fits = self._slot >= ALIGNED * len(self._site.hosts)
        if self._pipeline is None or not self._site.even or not fits:
            return self._flat.all_gather(output, input)
        values = input.detach().contiguous()
        return self._pipeline.submit(AllGather(self._site, output.detach(), values, self._slot))

    def reduce_scatter(self, output: Tensor, input: Tensor, op: str = "sum") -> Future[Tensor]:
        """Reduce all ranks' `input`; `output` is this rank's share of it along the first dimension.

        Raises:
            RefusedError: `output` is not contiguous, or `input` not as large as all outputs.
        """
        _check_output(output)
        _check_sizes(input, output, self.size, "scattered")
        reduction = Reduction(op, input.dtype, self.size)
        fits = self._slot >= self.size * input.element_size()
        if self._pipeline is None or not self._site.even or not fits or not simple(input):
            return self._flat.reduce_scatter(output, input, reduction)
        values = input.detach().contiguous()
        return self._pipeline.submit(
            ReduceScatter(self._site, output.detach(), values, self._slot, reduction)
        )

    def wait(self) -> None:
        """Until the collectives in two levels are complete that were called so far."""
        if self._pipeline is not None:
            self._pipeline.wait()

    def run_flat(self, call: Callable[[Any], Work], result: Any = None) -> Future[Any]:
        """Any other collective, through gloo.

        Args:
            call: Starts it in the group given.
            result: The future's value; None: the work's.
        """
        return self._flat.run(call, lambda value: value if result is None else result)

    def close(self) -> None:
        """Leave the group; what is still under way fails. May be called again."""
        _groups.discard(self)
        self._failure.set(ClosedError("The group was closed."))
        for part in (self._watch, self._pipeline):
            if part is not None:
                part.close()
        bells, self._bells = self._bells, []
        for bell in bells:
            os.close(bell)
        self._residuals.clear()

    def close_in_child(self) -> None:
        """After a fork: let go of connections whose end shall mean the parent's end."""
        if self._watch is not None:
            self._watch.close_in_child()
        if self._flow is not None:
            self._flow.close()

    def _join(self, store: Store) -> None:
        rank, site, timeout = self.rank, self._site, self._timeout
        terms = agree(store, rank, self.placement, self.plan.chunk_bytes, timeout)
        self._slot = terms.slot
        address = self.placement.hosts[site.host].address
        self._flat = Flat(
            _prefixed(store, "flat"), rank, self.size, address, self._failure, timeout
        )
        if self.size == 1:
            return
        joints = join(store, rank, site, self.placement, terms, timeout)
        self._bells = joints.bells
        self._flow = Flow(joints.links) if joints.links else None
        self._watch = Watch(self.placement, rank, joints.watched, self._closed_links, self._lose)
        self._pipeline = Pipeline(
            site,
            joints.segment,
            Words(joints.segment.words, site.local, joints.bells),
            joints.bells[site.local],
            self._flow,
            self._failure,
            self._name,
            self._suspect,
            self._miss,
            timeout,
        )
        self._watch.start()

    def _name(self, rank: int) -> str:
        return f"rank {rank} on host {self.placement.host_of(rank).name}"

    def _peer(self, host: int) -> int:
        return self._site.hosts[host][self._site.local]

    def _closed_links(self) -> list[int]:
        hosts = self._flow.closed_by_peer() if self._flow is not None else []
        return [self._peer(host) for host in hosts]

    def _suspect(self, host: int) -> None:
        """A link broke: wait for the news of why, else bring it."""
        if not self._failure.wait(SUSPICION) and self._watch is not None:
            self._watch.report({self._peer(host): CLOSED})
            self._failure.wait(SUSPICION)

    def _miss(self, ranks: set[int]) -> None:
        """These are waited for: where one of them left, what waits can but fail."""
        if self._watch is not None:
            self._watch.report(dict.fromkeys(ranks & self._watch.left, LEFT))

    def _lose(self) -> None:
        if self.lost:
            self._failure.set(peer_lost(self.placement, self.lost))

    def _tell(self) -> None:
        """Let others know of a failure that is this rank's own."""
        error = self._failure.error
        if self._watch is not None and not isinstance(error, (PeerLostError, ClosedError)):
            assert error is not None
            self._watch.report({self.rank: f"it failed. {error.what.rstrip('.')}"})

    def _feedback(
        self, key: Hashable | None, values: Tensor, format: Format | None
    ) -> list[Tensor] | None:
        import torch

        if key is None or format is None or self._flow is None:
            return None
        sizes = shard_sizes(self._site, values, self._slot, format)
        known = self._residuals.get(key)
        if known is None or [residual.numel() for residual in known] != sizes:
            known = self._residuals[key] = [
                torch.zeros(size, dtype=torch.float32) for size in sizes
            ]
        return known


def _check_place(tensor: Tensor) -> None:
    """Whether results can be written into a tensor; refused before other ranks count on it."""
    if tensor.device.type != "cpu":
        raise RefusedError(f"A tensor on {tensor.device} is not reduced here, only those on CPUs.")
    steps = () if tensor.is_sparse else zip(tensor.shape, tensor.stride(), strict=True)
    if any(count > 1 and not step for count, step in steps):
        raise RefusedError(
            "Nothing can be reduced into a tensor whose elements share memory, as an expanded one.",
            mend="Give a clone of it.",
        )


def _check_output(output: Tensor) -> None:
    _check_place(output)
    if not output.is_contiguous():
        raise RefusedError("The output is not contiguous.", mend="Give one that is.")


def _check_sizes(whole: Tensor, part: Tensor, ranks: int, done: str) -> None:
    if whole.dtype != part.dtype or whole.numel() != ranks * part.numel():
        raise RefusedError(
            f"{whole.numel()} values of {whole.dtype} cannot be {done}: there are {ranks} ranks "
            f"with {part.numel()} values of {part.dtype} each."
        )


def _prefixed(store: Store, prefix: str) -> Store:
    from torch._C._distributed_c10d import PrefixStore

    return PrefixStore(prefix, store)


def _close_all() -> None:
    if getattr(sys, "last_value", None) is not None:
        return  # who ends with an error says no goodbye, and is missed
    for group in list(_groups):
        group.close()


def _forked() -> None:
    for group in list(_groups):
        group.close_in_child()
    _groups.clear()


# Threads must not wait for peers while the interpreter ends, and a worker that was forked off must
# not keep a dead rank's connections open.
atexit.register(_close_all)
os.register_at_fork(after_in_child=_forked)
