"""The algorithms that a benchmark knows, ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ds_nccl_ring.bench import baselines

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

    from ds_nccl_ring.group import Group
    from ds_nccl_ring.placement import Placement


_BASELINES = ("flat", "interleaved", "parameter-server")


class Variants:
    """A rank's share in the variants asked for; every rank makes it alike.

    Args:
        names: As in `Options.variants`.
        store: Of all ranks.
        rank: This one.
        placement: As proved.
        largest: Elements of the largest tensor.
        timeout: Seconds that a collective may take.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        store: Store,
        rank: int,
        placement: Placement,
        *,
        largest: int,
        timeout: float,
    ) -> None:
        order = baselines.contiguous(placement)
        self.flat = baselines.gloo(store, "bench flat", order, rank, timeout)
        self.ways: dict[str, Callable[[Tensor], None]] = {}
        self._group: Group | None = None
        if set(names) - set(_BASELINES):
            from torch._C._distributed_c10d import PrefixStore

            from ds_nccl_ring.group import Group
            from ds_nccl_ring.plan import TopologyPlan

            self._group = Group(
                PrefixStore("bench group", store),
                rank,
                placement.size,
                placement,
                TopologyPlan.of(placement),
                timeout=timeout,
                name="bench",
            )
        for name in names:
            if name == "flat":
                self.ways[name] = baselines.ring(self.flat)
            elif name == "interleaved":
                dealt = baselines.interleaved(placement)
                group = baselines.gloo(store, "bench interleaved", dealt, rank, timeout)
                self.ways[name] = baselines.ring(group)
            elif name == "parameter-server":
                import torch

                server = order[0] == rank
                scratch = torch.empty(2 * largest if server else 0)
                self.ways[name] = baselines.parameter_server(self.flat, scratch)
            else:
                self.ways[name] = self._by_group(None if name == "chosen" else name)

    def close(self) -> None:
        """Say goodbye."""
        if self._group is not None:
            self._group.close()

    def _by_group(self, algorithm: str | None) -> Callable[[Tensor], None]:
        group = self._group
        assert group is not None
        if algorithm is None:
            from ds_nccl_ring.calibration import calibrate_group

            calibrate_group(group)

        def reduce(tensor: Tensor) -> None:
            group.all_reduce(tensor, "sum", algorithm=algorithm).wait()

        return reduce
