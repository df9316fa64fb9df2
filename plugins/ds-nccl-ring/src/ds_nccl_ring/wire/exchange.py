"""One shard on its way between hosts: each host reduces a part of it, and sends that to all.

In step s of each phase a host sends to the s-th host after it and receives from the s-th before it:
every step has one sender for each receiver. Both phases together send 2(N-1)/N of the shard from
each of N hosts, which is the least for an all-reduce. The phases are those of Rabenseifner,
Optimization of collective reduction operations, ICCS 2004; a ring needs N-1 steps for each phase
and rounds in each, while here a part is reduced in one place, in one order, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ds_nccl_ring.wire.flow import Gate, Receive, Send

if TYPE_CHECKING:
    from torch import Tensor

    from ds_nccl_ring.reduction import Reduction
    from ds_nccl_ring.wire.formats import Format


class Exchange:
    """What a host sends and receives for one shard.

    Args:
        parts: The shard, in as many 1-D contiguous parts as there are hosts, which are changed in
            place: afterwards `parts[me]` is reduced, and with `gather` the others are as they are
            on their hosts.
        me: This host's number.
        reduction: How parts are reduced; None: they are only gathered.
        gather: Whether all hosts get all parts.
        format: What goes over the wire; None: the parts' own bytes.
        residuals: float32 like `parts`, for the feedback of a format's error; None: no feedback.
        done: Called by the flow's thread once all is sent and received.
    """

    def __init__(
        self,
        parts: Sequence[Tensor],
        me: int,
        *,
        reduction: Reduction | None,
        gather: bool,
        format: Format | None,
        residuals: Sequence[Tensor] | None,
        done: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._me = me
        self._reduction = reduction
        self._format = format
        self._residuals = residuals
        self._done = done
        self._gate = Gate()
        hosts = len(parts)
        self._after = [(me + step) % hosts for step in range(1, hosts)]
        self._before = [(me - step) % hosts for step in range(1, hosts)]
        self._unsummed = hosts - 1
        self._message: Tensor | None = None
        self.scatter: tuple[list[Send], list[Receive]] = ([], [])
        """Contributions to each other's parts."""
        self.gather: tuple[list[Send], list[Receive]] = ([], [])
        """Parts that are reduced. May be submitted after the next shard's contributions."""
        if reduction is not None:
            own = parts[me]
            wide = reduction.wide or (format is not None and own.element_size() != 4)
            self._total = own.float() if wide else own
            self.scatter = self._contributions()
        if gather:
            self.gather = self._reduced()
        self._left = sum(len(items) for phase in (self.scatter, self.gather) for items in phase)

    def _contributions(self) -> tuple[list[Send], list[Receive]]:
        own = self._parts[self._me]
        sends = [
            Send(host, self._encoded(host, self._parts[host]), None, self._finish)
            for host in self._after
        ]
        size = self._size(own)
        return sends, [Receive(host, size, None, self._add) for host in self._before]

    def _reduced(self) -> tuple[list[Send], list[Receive]]:
        import torch

        own = self._parts[self._me]
        gate = None if self._reduction is None else self._gate
        if self._format is None:
            data = bytes_of(own)
        else:
            self._message = torch.empty(self._size(own), dtype=torch.uint8)
            data = bytes_of(self._message)
        sends = [Send(host, data, gate, self._finish) for host in self._after]
        return sends, [self._receive(host) for host in self._before]

    def _receive(self, host: int) -> Receive:
        part = self._parts[host]
        if self._format is None:
            return Receive(host, self._size(part), bytes_of(part), lambda _: self._finish())

        def decode(data: memoryview) -> None:
            self._decode(data, part)
            self._finish()

        return Receive(host, self._size(part), None, decode)

    def _size(self, part: Tensor) -> int:
        if self._format is None:
            return part.numel() * part.element_size()
        return self._format.size(part.numel())

    def _encoded(self, host: int, part: Tensor) -> memoryview:
        import torch

        if self._format is None:
            return bytes_of(part)
        message = torch.empty(self._size(part), dtype=torch.uint8)
        residual = None if self._residuals is None else self._residuals[host]
        self._format.encode_with_feedback(part.float(), message, residual)
        return bytes_of(message)

    def _decode(self, data: memoryview, part: Tensor) -> None:
        import torch

        assert self._format is not None
        if part.numel():
            values = (
                part
                if part.dtype == torch.float32
                else torch.empty(part.shape, dtype=torch.float32)
            )
            self._format.decode(torch.frombuffer(data, dtype=torch.uint8), values)
            if values is not part:
                part.copy_(values)

    def _add(self, data: memoryview) -> None:
        import torch

        assert self._reduction is not None
        own = self._parts[self._me]
        if own.numel():
            if self._format is None:
                contribution = torch.frombuffer(data, dtype=own.dtype)
            else:
                contribution = torch.empty(own.shape, dtype=torch.float32)
                self._decode(data, contribution)
            self._reduction.combine(self._total, contribution)
        self._unsummed -= 1
        if not self._unsummed:
            self._close_sum()
        self._finish()

    def _close_sum(self) -> None:
        own = self._parts[self._me]
        if self._message is not None:
            assert self._format is not None
            residual = None if self._residuals is None else self._residuals[self._me]
            self._format.encode_with_feedback(self._total, self._message, residual)
            # The owner takes what the others get, so that all hosts end with the same bits.
            self._decode(bytes_of(self._message), own)
        elif self._total is not own:
            own.copy_(self._total)
        self._gate.is_open = True

    def _finish(self) -> None:
        self._left -= 1
        if not self._left:
            self._done()


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a 1-D contiguous tensor."""
    import torch

    array: Any = tensor.view(torch.uint8).numpy()
    return memoryview(array)
