"""What the plugin is compared with: gloo's ring in both orders of ranks, and a parameter server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ds_nccl_ring.addresses import own_address

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.placement import Placement

Gloo = Any
"""A ProcessGroupGloo, of which torch's stubs leave out what it does."""


def contiguous(placement: Placement) -> list[int]:
    """Ranks host by host: a ring over them crosses each uplink once."""
    return [rank for host in placement.hosts for rank in host.ranks]


def interleaved(placement: Placement) -> list[int]:
    """Ranks dealt from the hosts in turn: a ring over them crosses an uplink at every step."""
    longest = max(len(host.ranks) for host in placement.hosts)
    return [
        host.ranks[turn]
        for turn in range(longest)
        for host in placement.hosts
        if turn < len(host.ranks)
    ]


def gloo(store: Store, name: str, order: Sequence[int], rank: int, timeout: float) -> Gloo:
    """A gloo group in which the ranks stand in an order; every rank calls it."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore

    kind: Any = dist.ProcessGroupGloo
    options = kind._Options()
    options._devices = [kind.create_device(hostname=own_address())]
    options._timeout = timedelta(seconds=timeout)
    return kind(PrefixStore(name, store), order.index(rank), len(order), options)


def ring(group: Gloo) -> Callable[[Tensor], None]:
    """All-reduce by gloo."""

    def reduce(tensor: Tensor) -> None:
        group.allreduce([tensor]).wait()

    return reduce


def parameter_server(group: Gloo, scratch: Tensor) -> Callable[[Tensor], None]:
    """All-reduce by one server: the first rank receives all tensors, and then sends their sum.

    Args:
        group: All ranks.
        scratch: As large as two tensors, for what the server receives.
    """

    def reduce(tensor: Tensor) -> None:
        others = range(1, group.size())
        if group.rank():
            group.send([tensor], 0, 0).wait()
            group.recv([tensor], 0, 1).wait()
            return
        size = tensor.numel()
        parts = [scratch[other % 2 * size :][:size] for other in (0, *others)]
        waiting = [group.recv([parts[other]], other, 0) for other in others[:1]]
        for other in others:  # the next tensor arrives while this one is added
            waiting.pop().wait()
            if other + 1 < group.size():
                waiting.append(group.recv([parts[other + 1]], other + 1, 0))
            tensor.add_(parts[other])
        for work in [group.send([tensor], other, 1) for other in others]:
            work.wait()

    return reduce
