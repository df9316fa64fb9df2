"""What follows from costs for sizes and numbers of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydantic

from ds_nccl_ring import curves
from ds_nccl_ring.bench.figures import Figures
from ds_nccl_ring.simulate import fit, published
from ds_nccl_ring.simulate.model import ALGORITHMS, Shape, terms

SIZES = tuple(1 << power for power in range(14, 31, 2))
NODES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Outlook(pydantic.BaseModel):
    """Simulated seconds of each algorithm."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    what: str = "simulated"
    source: str
    """Where the costs come from."""
    nodes: int
    gpus_per_node: int
    rate: float
    """Bytes a second of a node's uplinks together."""
    nbytes: int
    seconds: dict[str, float]
    """At the size and the nodes asked for."""
    protocol: dict[str, str]
    """NCCL's protocol behind each time; empty where costs are fitted."""
    over_sizes: dict[int, dict[str, float]]
    over_nodes: dict[int, dict[str, float]]
    left_out: dict[str, float] | None = None
    """Median and worst relative error on figures that the fit had not seen."""

    @property
    def best(self) -> str | None:
        """The fastest among algorithms that send exact numbers, where there are any."""
        exact = {
            name: seconds
            for name, seconds in self.seconds.items()
            if not name.startswith("hierarchical-")
        }
        return min(exact, key=exact.__getitem__, default=None)


class Clock:
    """Simulated times, by the published costs or by costs fitted to benchmarks.

    Args:
        benchmarks: What to fit costs to; none: the published ones.
        protocol: Of NCCL's, in place of the faster one; only with the published costs.

    Raises:
        RefusedError: Benchmarks cannot calibrate it.
    """

    def __init__(self, benchmarks: Sequence[Figures] = (), protocol: str | None = None) -> None:
        self.left_out: dict[str, float] | None = None
        if not benchmarks:
            self.source, self.rate = published.SOURCE, published.RATE
            names = published.PROTOCOLS if protocol is None else [protocol]
            self._protocols = {name: published.PROTOCOLS[name] for name in names}
            return
        measured = fit.points(benchmarks)
        found = fit.leave_one_out(measured)
        if found is not None:
            self.left_out = {"median": found.median, "worst": found.worst}
        kind = "an emulated cluster" if any(each.emulated for each in benchmarks) else "a cluster"
        self.source = f"fitted to {len(measured)} times measured on {kind}"
        self.rate = measured[0].shape.rate
        self._protocols = {"": fit.fit(measured)}

    @property
    def algorithms(self) -> list[str]:
        """Those that there are costs of."""
        known = set.intersection(*(set(costs) for costs in self._protocols.values()))
        return [name for name in ALGORITHMS if name in known]

    def seconds(self, algorithm: str, shape: Shape, nbytes: int) -> tuple[float, str]:
        """Of an all-reduce, and the protocol that it is fastest by."""
        counted = terms(algorithm, shape, nbytes)
        return min(
            (costs[algorithm].seconds(counted), name) for name, costs in self._protocols.items()
        )

    def times(self, shape: Shape, nbytes: int) -> dict[str, float]:
        """Of each algorithm."""
        return {name: self.seconds(name, shape, nbytes)[0] for name in self.algorithms}


def outlook(clock: Clock, shape: Shape, nbytes: int) -> Outlook:
    """Simulate an all-reduce, at other sizes, and on other numbers of nodes."""
    told = {name: clock.seconds(name, shape, nbytes) for name in clock.algorithms}
    return Outlook(
        source=clock.source,
        nodes=shape.hosts,
        gpus_per_node=shape.ranks,
        rate=shape.rate,
        nbytes=nbytes,
        seconds={name: seconds for name, (seconds, _) in told.items()},
        protocol={name: protocol for name, (_, protocol) in told.items() if protocol},
        over_sizes={size: clock.times(shape, size) for size in SIZES},
        over_nodes={
            nodes: clock.times(Shape(nodes, shape.ranks, shape.rate), nbytes) for nodes in NODES
        },
        left_out=clock.left_out,
    )


def draw(found: Outlook, path: Path) -> None:
    """Draw seconds over bytes and over nodes; raises as `curves.draw` does."""
    from ds_core.cli.output import size

    panels = {
        "bytes": found.over_sizes,
        f"nodes, at {size(found.nbytes)}": found.over_nodes,
    }
    curves.draw(
        path,
        f"simulated all-reduce on {found.nodes} nodes of {found.gpus_per_node}",
        {
            axis: {
                name: [(x, seconds[name]) for x, seconds in over.items()] for name in found.seconds
            }
            for axis, over in panels.items()
        },
    )
