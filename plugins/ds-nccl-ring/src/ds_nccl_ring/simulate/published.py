"""Costs on a cluster of eight-GPU nodes under NCCL, by what others have published.

Latencies are the constants of NCCL 2.30's own tuning model (src/graph/tuning.cc): base latency,
and for each hop over the network and over NVLink, of the tree and the ring, in protocols Simple
and LL128. Bandwidths are those of a DGX H100: eight network ports of 400 Gbit/s and 450 GB/s of
NVLink in each direction for each GPU (NVIDIA's data sheet). Of NCCL's corrections the efficiencies
are in (LL128 carries 120 bytes in 128; trees reach 92%), and its empirical factors for medium sizes
(trees) and large rings (latency times 1.4) are not.
"""

from __future__ import annotations

from ds_nccl_ring.simulate.model import ALGORITHMS, Costs

RATE = 8 * 400e9 / 8
"""Bytes a second of a node's ports together."""
NVLINK = 450e9
"""Bytes a second of a GPU."""
SOURCE = (
    "latencies of NCCL 2.30's tuning model, bandwidths of DGX H100's data sheet; not measured, "
    "and not of your cluster"
)

_MICRO = 1e-6


def _protocol(
    start: float, ring: tuple[float, float], tree: tuple[float, float], carried: float
) -> dict[str, Costs]:
    """Costs of each algorithm; latencies are in microseconds, of the network and of NVLink."""
    found = {}
    for algorithm in ALGORITHMS:
        network, inside = tree if algorithm == "tree" else ring
        # Inside a host, the flat ring and the tree work while the network does.
        apart = algorithm.startswith("hierarchical")
        found[algorithm] = Costs(
            start * _MICRO,
            network * _MICRO,
            inside * _MICRO,
            1 / carried / (0.92 if algorithm == "tree" else 1),
            1 / NVLINK / carried if apart else 0.0,
        )
    return found


PROTOCOLS: dict[str, dict[str, Costs]] = {
    "Simple": _protocol(8.4, ring=(14.0, 3.4), tree=(14.0, 4.0), carried=1.0),
    "LL128": _protocol(14.0, ring=(4.0, 1.9), tree=(8.5, 1.25), carried=120 / 128),
}
"""Costs of each algorithm; NCCL chooses the faster protocol, and so does a simulation."""
