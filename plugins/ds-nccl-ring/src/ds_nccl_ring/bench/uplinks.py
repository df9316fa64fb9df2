"""How fast a host's uplink is, where nobody says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ds_nccl_ring.bench.baselines import Gloo

if TYPE_CHECKING:
    from ds_nccl_ring.placement import Placement

_LONG = 0.3
"""Seconds that a transfer takes at least, so that its beginning does not matter."""
_FIRST, _LARGEST = 1 << 20, 1 << 28
_AGAIN = 2


def measured_rate(
    group: Gloo,
    placement: Placement,
    barrier: Callable[[], None],
    slowest: Callable[[list[float]], list[float]],
) -> float:
    """Bytes a second of the slowest uplink, when every host sends to the next at once.

    Args:
        group: All ranks, host by host.
        placement: Of at least two hosts.
        barrier: Returns once all ranks are there.
        slowest: The element-wise maximum over ranks.
    """
    import torch

    rails = min(len(host.ranks) for host in placement.hosts)
    starts = [0]
    for host in placement.hosts:
        starts.append(starts[-1] + len(host.ranks))
    here = next(host for host, end in enumerate(starts[1:]) if group.rank() < end)
    rail = group.rank() - starts[here]
    hosts = len(placement.hosts)
    ahead, behind = (starts[(here + step) % hosts] + rail for step in (1, -1))

    def seconds(nbytes: int) -> float:
        sent = torch.zeros(nbytes // rails, dtype=torch.uint8)
        received = torch.empty_like(sent)
        barrier()
        start = time.perf_counter()
        if rail < rails:
            works = [group.send([sent], ahead, 2), group.recv([received], behind, 2)]
            for work in works:
                work.wait()
        return slowest([time.perf_counter() - start])[0]

    nbytes = _FIRST
    while (took := seconds(nbytes)) < _LONG and nbytes < _LARGEST:
        nbytes *= 2 if took > _LONG / 4 else 4
    # The best of some, as nothing makes an uplink faster than it is.
    took = min([took, *(seconds(nbytes) for _ in range(_AGAIN))])
    return nbytes // rails * rails / took
