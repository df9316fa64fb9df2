"""The core's emulated cluster with functions as jobs: a test instrument, and what `--emulate` runs.

What is measured on it is a real transfer, through the kernel's TCP, at the rate that the uplinks
are limited to. It is no measurement of a cluster: all ranks share this machine's cores, and
latencies are those between processes. Whatever reports its figures calls them emulated.
"""

from ds_nccl_ring.emulated_cluster.cluster import EmulatedCluster
from ds_nccl_ring.emulated_cluster.ranks import RankError, Running

__all__ = ["EmulatedCluster", "RankError", "Running"]
