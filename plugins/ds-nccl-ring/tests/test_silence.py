"""A host that vanishes without a word, on emulated uplinks."""

import os
import time

import pytest
import torch
from ds_nccl_ring.emulated_cluster import EmulatedCluster
from ds_nccl_ring.errors import PeerLostError
from ds_nccl_ring.group import Group
from ds_nccl_ring.placement import prove
from ds_nccl_ring.plan import TopologyPlan

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(EmulatedCluster.missing() is not None, reason="needs root, ip and tc"),
]


def until_lost():
    import torch.distributed as dist

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, size, is_master=rank == 0)
    where = prove(dist.PrefixStore("where", store), rank, size, timeout=60)
    group = Group(store, rank, size, where, TopologyPlan.of(where), timeout=60)
    try:
        while True:
            for algorithm in ("hierarchical", "flat"):
                group.all_reduce(torch.ones(50_000), algorithm=algorithm).wait()
    except PeerLostError as error:
        when = time.time()
        time.sleep(3)  # the store's host must not go before the others are told
        return when, str(error)
    finally:
        group.close()


def test_all_ranks_of_a_host_that_falls_silent_are_named_long_before_the_timeout():
    with EmulatedCluster(3, 2, "200mbit") as cluster:
        running = cluster.start(until_lost)
        time.sleep(5)
        cut = time.time()
        cluster.cut("host1")
        results = running.results(timeout=40)
    for rank in (0, 1, 4, 5):
        when, text = results[rank]
        assert when - cut < 20  # of 60
        assert "ranks 2, 3 on host host1 are gone: its host fell silent" in text
    # Who was cut off has lost the others.
    assert "gone" in results[2][1]
