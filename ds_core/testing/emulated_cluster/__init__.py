"""A cluster on one machine: hosts as network namespaces on a bridge, with wires of a fixed rate.

    switch namespace            one bridge, one port per host
      | host0   | host1 ...     ports: limited to `rate` towards the host
      | eth0    | eth0          uplinks: limited to `rate` towards the switch
    host namespaces             10.77.0.1, 10.77.0.2, ...; several ranks in each

`cluster` is the face, `network` makes and removes the namespaces, `job` runs one process per
rank, `seats` says which rank sits where, `rates` knows the bound, `removal` and `guard` see to it
that nothing stays behind, and `fixtures` is for pytest.

Nothing is created outside the namespaces, and no packet leaves them. Hosts share the machine's
file systems, `/dev/shm`, host name and boot id; `DS_NODE` tells them apart. Wires have a rate but
no delay: the Linux queue that would add one (netem) is often not built.
"""

from ds_core.testing.emulated_cluster.cluster import EmulatedCluster
from ds_core.testing.emulated_cluster.errors import (
    EmulationError,
    EmulationUnavailable,
    JobFailed,
    JobTimeout,
)
from ds_core.testing.emulated_cluster.job import RankResult, RunningJob, RunResult
from ds_core.testing.emulated_cluster.network import Wire, unavailable_reason
from ds_core.testing.emulated_cluster.rates import lower_bound

__all__ = [
    "EmulatedCluster",
    "EmulationError",
    "EmulationUnavailable",
    "JobFailed",
    "JobTimeout",
    "RankResult",
    "RunResult",
    "RunningJob",
    "Wire",
    "lower_bound",
    "unavailable_reason",
]
