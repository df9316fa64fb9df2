"""Variants: the same sum by all, and what each sends."""

import os

import pytest
import torch
from ds_nccl_ring.bench import baselines
from ds_nccl_ring.bench.job import benchmark, measure
from ds_nccl_ring.bench.options import VARIANTS, Options
from ds_nccl_ring.emulated_cluster import EmulatedCluster
from ds_nccl_ring.placement import Host, Placement

from ds_core.testing import requires_emulated_cluster

SIZE = 1 << 20


def placed(*hosts):
    return Placement(
        tuple(Host(f"h{n}", ranks, "127.0.0.1") for n, ranks in enumerate(hosts)), "DS_NODE"
    )


def test_orders_of_ranks():
    placement = placed((0, 3), (1, 4, 5), (2,))
    assert baselines.contiguous(placement) == [0, 3, 1, 4, 5, 2]
    assert baselines.interleaved(placement) == [0, 1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def cluster():
    with EmulatedCluster(2, 2, "400mbit") as made:
        yield made


@pytest.mark.cluster
@pytest.mark.processes
@requires_emulated_cluster
class TestOnACluster:
    """Two hosts of two ranks."""

    def test_all_variants_sum(self, cluster):
        options = Options(
            sizes=(4, 4096, SIZE),
            variants=tuple(VARIANTS),
            rounds=2,
            budget=0.2,
            rate=cluster.rate,
            emulated=True,
        )
        figures, *others = cluster.run(benchmark, options, timeout=120)
        assert others == [None] * 3
        assert figures.hosts == (2, 2)
        assert len(figures.rows) == 3 * len(VARIANTS)
        most = {"float32": 1e-6, "bfloat16": 1e-2, "int8": 3e-2}
        for row in figures.rows:
            assert row.error < most[row.wire], row
            assert row.low <= row.seconds <= row.high
        # Lossy formats are seen to be lossy, so that the error is no constant.
        assert figures.find("hierarchical-int8", SIZE).error > 1e-3

    @pytest.mark.parametrize(
        ("variant", "tensors"),
        # Of two hosts with two ranks each; a server's host receives and sends two.
        [("flat", 1.5), ("interleaved", 3.0), ("parameter-server", 2.0)],
    )
    def test_what_a_baseline_sends_over_an_uplink(self, cluster, variant, tensors):
        def once():
            from ds_nccl_ring.bench.variants import Variants
            from ds_nccl_ring.show import meet

            place = meet(30)
            placement = placed((0, 1), (2, 3))
            variants = Variants(
                (variant,), place.store, place.rank, placement, largest=SIZE, timeout=30
            )
            tensor = torch.full((SIZE,), float(place.rank))
            variants.ways[variant](tensor)
            variants.close()
            return float(tensor[0]), float(tensor[-1])

        assert cluster.run(once, timeout=60) == [(6.0, 6.0)] * 4
        for sent in cluster.bytes_sent().values():
            assert tensors * 4 * SIZE < sent < tensors * 4 * SIZE * 1.05 + 2e5

    def test_the_uplinks_rate_is_measured(self, cluster):
        options = Options(sizes=(4096,), variants=("flat",), rounds=1, budget=0.1)
        figures = cluster.run(benchmark, options, timeout=60)[0]
        assert figures.rate_source == "measured"
        # A busy machine makes it less, and nothing makes it more.
        assert 0.1 * cluster.rate < figures.rate < 1.05 * cluster.rate


def test_one_rank_alone_sums_by_every_algorithm():
    options = Options(sizes=(4096,), variants=tuple(VARIANTS), rounds=1, budget=0.1)
    figures = measure(torch.distributed.HashStore(), 0, 1, options)
    assert [row.algorithm for row in figures.rows] == list(VARIANTS)
    assert all(row.error < 1e-6 for row in figures.rows)


def test_a_single_process_is_refused():
    from ds_nccl_ring.bench.run import here

    from ds_core.errors import RefusedError

    assert "RANK" not in os.environ
    with pytest.raises(RefusedError, match="single process"):
        here(Options(sizes=(4,), variants=("flat",)))
