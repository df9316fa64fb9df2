"""All-gather and reduce-scatter through the slots of shared memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ds_nccl_ring.collectives import Collective, Site, own_first
from ds_nccl_ring.wire.exchange import Exchange

if TYPE_CHECKING:
    from torch import Tensor

    from ds_nccl_ring.reduction import Reduction

ALIGNED = 64
"""Bytes; windows of an all-gather begin at multiples."""


class AllGather(Collective):
    """A slot has room for the ranks of one rail on all hosts.

    Args:
        site: Where this rank is, on hosts with as many ranks each.
        output: Contiguous, of all ranks' inputs in order; the future's result.
        values: This rank's input, contiguous.
        slot: Bytes of a slot.
    """

    def __init__(self, site: Site, output: Tensor, values: Tensor, slot: int) -> None:
        import torch

        room = slot // len(site.hosts) // ALIGNED * ALIGNED
        self._input = values.reshape(-1).view(torch.uint8)
        self._output = output.view(-1).view(torch.uint8)
        super().__init__(site, -(-self._input.numel() // room), output)
        self._room = room

    def fill(self, chunk: int, slot: Tensor) -> None:
        values = self._window(self._input, chunk)
        self._part(slot, self.site.host, values.numel()).copy_(values)

    def combine(self, chunk: int, slots: Sequence[Tensor]) -> None:
        pass

    def exchange(self, chunk: int, slot: Tensor, done: Callable[[], None]) -> Exchange:
        size = self._window(self._input, chunk).numel()
        return Exchange(
            [self._part(slot, host, size) for host in range(len(self.site.hosts))],
            self.site.host,
            reduction=None,
            gather=True,
            format=None,
            residuals=None,
            done=done,
        )

    def take(self, chunk: int, slots: Sequence[Tensor]) -> None:
        outputs = self._output.view(-1, self._input.numel())
        for host, ranks in enumerate(self.site.hosts):
            for local, rank in enumerate(ranks):
                values = self._window(outputs[rank], chunk)
                values.copy_(self._part(slots[local], host, values.numel()))

    def _window(self, values: Tensor, chunk: int) -> Tensor:
        return values[chunk * self._room : (chunk + 1) * self._room]

    def _part(self, slot: Tensor, host: int, size: int) -> Tensor:
        return slot[host * self._room : host * self._room + size]


class ReduceScatter(Collective):
    """A slot has room for a window of every rank's values, rail after rail.

    Args:
        site: Where this rank is, on hosts with as many ranks each.
        output: Contiguous; the future's result.
        values: Contiguous, of what each rank shall get, in order.
        slot: Bytes of a slot, at least an element for each rank.
        reduction: How.
    """

    def __init__(
        self, site: Site, output: Tensor, values: Tensor, slot: int, reduction: Reduction
    ) -> None:
        self._ranks = len(site.hosts) * site.rails
        self._room = slot // (self._ranks * values.element_size())
        self._output = output.view(-1)
        self._inputs = values.view(self._ranks, -1) if values.numel() else values
        self._reduction = reduction
        super().__init__(site, -(-self._output.numel() // self._room), output)

    def fill(self, chunk: int, slot: Tensor) -> None:
        place = self._places(slot, chunk)
        for host, ranks in enumerate(self.site.hosts):
            for local, rank in enumerate(ranks):
                place[local, host].copy_(self._window(self._inputs[rank], chunk))

    def combine(self, chunk: int, slots: Sequence[Tensor]) -> None:
        local = self.site.local
        own, *others = (
            self._places(slots[rank], chunk)[local] for rank in own_first(local, len(slots))
        )
        self._reduction.combine_all(own, others)

    def exchange(self, chunk: int, slot: Tensor, done: Callable[[], None]) -> Exchange:
        return Exchange(
            list(self._places(slot, chunk)[self.site.local]),
            self.site.host,
            reduction=self._reduction,
            gather=False,
            format=None,
            residuals=None,
            done=done,
        )

    def take(self, chunk: int, slots: Sequence[Tensor]) -> None:
        local, host = self.site.local, self.site.host
        self._window(self._output, chunk).copy_(self._places(slots[local], chunk)[local, host])

    def _window(self, values: Tensor, chunk: int) -> Tensor:
        return values[chunk * self._room : (chunk + 1) * self._room]

    def _places(self, slot: Tensor, chunk: int) -> Tensor:
        """The chunk's windows in a slot: rail, host, value."""
        width = self._window(self._output, chunk).numel()
        count = self._ranks * width * self._output.element_size()
        typed = slot[:count].view(self._output.dtype)
        return typed.view(self.site.rails, len(self.site.hosts), width)
