"""What each collective puts into the slots of shared memory, and what it takes out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_nccl_ring.wire.exchange import Exchange

if TYPE_CHECKING:
    from torch import Tensor
    from torch.futures import Future

    from ds_nccl_ring.reduction import Reduction
    from ds_nccl_ring.wire.formats import Format

OVERLAP = 16
"""Chunks of a tensor that is not so large that slots decide."""

PAYS = 1 << 20
"""Bytes of a chunk below which handling it costs more than overlapping gains."""


@dataclass(frozen=True)
class Site:
    """Where a rank is."""

    hosts: tuple[tuple[int, ...], ...]
    """The ranks of each host."""
    host: int
    """This rank's host."""
    local: int
    """Which of its host's ranks this one is."""
    rails: int
    """How many of each host's ranks talk to other hosts."""

    @property
    def locals(self) -> int:
        """How many ranks are on this host."""
        return len(self.hosts[self.host])

    @property
    def even(self) -> bool:
        """Whether all hosts have as many ranks."""
        return all(len(ranks) == self.rails for ranks in self.hosts)


class Collective(ABC):
    """A collective in chunks, each of which fits into a slot.

    The stages call `fill`, `combine`, `exchange` and `take` for each chunk, in this order.

    Args:
        site: Where this rank is.
        chunks: How many.
        result: What the future is of.
    """

    def __init__(self, site: Site, chunks: int, result: Any) -> None:
        import torch

        self.site = site
        self.chunks = chunks
        self.future: Future[Any] = torch.futures.Future()
        self._result = result
        self._settled = False
        self._settling = threading.Lock()

    @abstractmethod
    def fill(self, chunk: int, slot: Tensor) -> None:
        """Copy this rank's values into its slot (uint8)."""

    @abstractmethod
    def combine(self, chunk: int, slots: Sequence[Tensor]) -> None:
        """Reduce this rank's shard over all slots of the host, in its own slot."""

    @abstractmethod
    def exchange(self, chunk: int, slot: Tensor, done: Callable[[], None]) -> Exchange:
        """What this rank's shard needs from other hosts."""

    @abstractmethod
    def take(self, chunk: int, slots: Sequence[Tensor]) -> None:
        """Copy the result out of the host's slots."""

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Called after the last chunk, before the future is complete."""

    def complete(self) -> None:
        """Complete the future, unless it has failed."""
        import torch

        self.finish()
        if self._settle():
            # What callbacks make shall be ordinary tensors.
            with torch.inference_mode(False), torch.no_grad():
                self.future.set_result(self._result)

    def fail(self, error: Exception) -> None:
        """Fail the future, unless it is complete."""
        if self._settle():
            self.future.set_exception(error)

    def _settle(self) -> bool:
        with self._settling:
            settled, self._settled = self._settled, True
        return not settled


class AllReduce(Collective):
    """A chunk is cut into a shard for each rail, and a shard into a part for each host.

    Args:
        site: Where this rank is.
        result: The future's.
        target: What is reduced in place.
        values: The same or, where it is not contiguous, a copy: 1-D.
        slot: Bytes of a slot.
        reduction: How.
        format: Between hosts.
        residuals: float32, of `shard_sizes` elements, for the format's feedback.
    """

    def __init__(
        self,
        site: Site,
        result: Tensor,
        target: Tensor,
        values: Tensor,
        slot: int,
        reduction: Reduction,
        format: Format | None,
        residuals: Sequence[Tensor] | None,
    ) -> None:
        super().__init__(site, chunk_count(values, slot, format), result)
        self._target = target
        self._values = values
        self._reduction = reduction
        self._format = format
        self._residuals = residuals

    def fill(self, chunk: int, slot: Tensor) -> None:
        values = self._chunk(chunk)
        _typed(slot, values).copy_(values)

    def combine(self, chunk: int, slots: Sequence[Tensor]) -> None:
        local = self.site.local
        if local >= self.site.rails:
            return
        own, *others = (
            self._shard(_typed(slots[rank], self._chunk(chunk)), local)
            for rank in own_first(local, len(slots))
        )
        self._reduction.combine_all(own, others)

    def exchange(self, chunk: int, slot: Tensor, done: Callable[[], None]) -> Exchange:
        shard = self._shard(_typed(slot, self._chunk(chunk)), self.site.local)
        residual = None if self._residuals is None else self._residuals[chunk]
        hosts = len(self.site.hosts)
        return Exchange(
            split(shard, hosts),
            self.site.host,
            reduction=self._reduction,
            gather=True,
            format=self._format,
            residuals=None if residual is None else split(residual, hosts),
            done=done,
        )

    def take(self, chunk: int, slots: Sequence[Tensor]) -> None:
        values = self._chunk(chunk)
        for rail in range(self.site.rails):
            self._shard(values, rail).copy_(self._shard(_typed(slots[rail], values), rail))

    def finish(self) -> None:
        if self._values.data_ptr() != self._target.data_ptr():
            self._target.copy_(self._values.view(self._target.shape))

    def _chunk(self, chunk: int) -> Tensor:
        return _piece(self._values, chunk, self.chunks)

    def _shard(self, values: Tensor, rail: int) -> Tensor:
        return _piece(values, rail, self.site.rails)


def chunk_count(values: Tensor, slot: int, format: Format | None) -> int:
    """How many chunks a 1-D tensor is cut into: enough to overlap, and none too small to pay."""
    size = values.element_size()
    # The faster the wire, the more it counts what a chunk costs beside it.
    overlap = OVERLAP if format is None else OVERLAP // 2
    room = min(slot, max(PAYS, values.numel() * size // overlap)) // size
    return -(-values.numel() // room)


def shard_sizes(site: Site, values: Tensor, slot: int, format: Format | None) -> list[int]:
    """Elements of this rank's shard of each chunk of an all-reduce."""
    chunks = chunk_count(values, slot, format)
    return [
        _piece(_piece(values, chunk, chunks), site.local, site.rails).numel()
        for chunk in range(chunks)
    ]


def split(values: Tensor, count: int) -> list[Tensor]:
    """A 1-D tensor in `count` parts whose sizes differ by at most one."""
    return [_piece(values, number, count) for number in range(count)]


def _piece(values: Tensor, number: int, count: int) -> Tensor:
    total = values.numel()
    return values[number * total // count : (number + 1) * total // count]


def _typed(slot: Tensor, like: Tensor) -> Tensor:
    return slot[: like.numel() * like.element_size()].view(like.dtype)


def own_first(local: int, ranks: int) -> list[int]:
    """A host's ranks from this one on."""
    return [(local + step) % ranks for step in range(ranks)]
