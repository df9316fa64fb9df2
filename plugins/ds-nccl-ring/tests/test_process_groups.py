"""The two levels over torch's own process groups: here gloo, as there is no GPU."""

import os

import pytest
import torch
import torch.distributed as dist
from ds_nccl_ring.placement import prove
from ds_nccl_ring.process_groups import ProcessGroupLegs
from forked import job
from torch._C._distributed_c10d import PrefixStore

from ds_core.errors import RefusedError

pytestmark = pytest.mark.processes

CPU = torch.device("cpu")


def legs(**options):
    dist.init_process_group("gloo")
    store = PrefixStore("test", dist.distributed_c10d._get_default_store())
    placement = prove(store, dist.get_rank(), dist.get_world_size(), timeout=30)
    chosen = {"wire": "float32", "chunk_bytes": 1 << 20, "device": CPU, "calibrate": False}
    return ProcessGroupLegs(placement, **{**chosen, **options})


def sums(wire):
    made = legs(wire=wire)
    rank, n = dist.get_rank(), dist.get_world_size()
    errors = []
    for count in (1, 7, 1 << 15, (1 << 15) + 3):
        generator = torch.Generator().manual_seed(count)
        everyone = torch.randn(n, count, generator=generator)
        for op, expected in (("sum", everyone.sum(0)), ("avg", everyone.mean(0))):
            for algorithm in ("flat", made.plan.hierarchical):
                got = everyone[rank].clone()
                made.all_reduce(got, op, algorithm=algorithm).wait()
                errors.append(((got - expected).norm() / expected.norm()).item())
    pending = [made.reduce_tensor(torch.full((9,), float(i)), "sum") for i in range(5)]
    assert [future.wait()[0].item() for future in pending] == [i * n for i in range(5)]
    made.close()
    return max(errors), made.plan.algorithms


@pytest.mark.parametrize(
    ("hosts", "wire", "limit"),
    [
        ((2, 2), "float32", 1e-6),
        ((3, 3), "float32", 1e-6),
        ((2, 2), "bfloat16", 2e-2),
        ((1, 1), "bfloat16", 2e-2),
    ],
)
def test_two_levels_sum_like_one(hosts, wire, limit):
    for error, algorithms in job(hosts, sums, wire):
        assert error < limit
        assert algorithms[-1][1] != "flat"


def halves():
    made = legs()
    found = []
    for algorithm in ("flat", "hierarchical"):
        with torch.inference_mode():
            x = torch.full((9,), 4e4).half()
        made.all_reduce(x, "avg", algorithm=algorithm).wait()
        found += x.tolist()
    made.close()
    return set(found)


def test_an_average_of_half_precision_does_not_overflow():
    assert job((2, 2), halves) == [{4e4}] * 4


@pytest.mark.parametrize("hosts", [(1, 2), (3,), (1, 1)], ids=str)
def test_where_levels_are_uneven_or_there_is_one_it_stays_flat(hosts):
    for _, algorithms in job(hosts, sums, "float32"):
        assert algorithms == ((0, "flat"),)


def timed():
    made = legs(calibrate=True)
    x = torch.ones(1 << 16)
    made.reduce_tensor(x).wait()
    assert (x == dist.get_world_size()).all()
    made.close()
    return made.plan.algorithms, made.calibration.seconds


def test_all_ranks_choose_alike():
    found = job((2, 2), timed)
    assert len({algorithms for algorithms, _ in found}) == 1
    assert all(set(seconds[1 << 16]) == {"flat", "hierarchical"} for _, seconds in found)


def refused():
    try:
        legs(wire="int8")
    except RefusedError as error:
        return os.environ["RANK"], error.what
    return None


def test_int8_cannot_be_summed_by_torch():
    assert all(
        "int8 cannot be summed between hosts by gloo" in said for _, said in job((2,), refused)
    )
