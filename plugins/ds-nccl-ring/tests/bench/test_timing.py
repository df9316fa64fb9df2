"""Timing: ways in turn, within a budget, and the slowest rank's times."""

import time

import pytest
import torch
from ds_nccl_ring.bench.timing import interleaved


def doubled(tensor):
    tensor.mul_(2)


def measure(ways, *, rounds=3, budget=1.0, slowest=lambda seconds: seconds, source=None):
    return interleaved(
        ways,
        torch.ones(4) if source is None else source,
        barrier=lambda: None,
        slowest=slowest,
        rounds=rounds,
        budget=budget,
    )


def test_ways_take_turns_and_begin_with_another_each_round():
    calls = []

    def way(name):
        def reduce(tensor):
            calls.append(name)
            time.sleep(0.05)  # longer than what is timed several times in a row

        return reduce

    times = measure({name: way(name) for name in "abc"})
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert all(len(each.seconds) == 3 for each in times.values())


def test_short_calls_are_timed_in_a_row_and_each_from_the_source():
    seen = []
    source = torch.ones(4)
    times = measure({"a": lambda tensor: (seen.append(tensor.clone()), doubled(tensor))})
    assert len(seen) > 1 + 3  # several calls a round
    assert all(torch.equal(tensor, source) for tensor in seen)
    assert torch.equal(times["a"].result, 2 * source)
    assert torch.equal(source, torch.ones(4))


def test_a_way_that_exceeds_the_budget_is_called_once():
    calls = []

    def slow(tensor):
        calls.append(1)
        time.sleep(0.2)

    times = measure({"fast": doubled, "slow": slow}, budget=0.1)
    assert len(calls) == 1
    assert len(times["slow"].seconds) == 1
    assert times["slow"].seconds[0] >= 0.2
    assert len(times["fast"].seconds) == 3


def test_the_slowest_rank_counts():
    times = measure({"a": doubled}, slowest=lambda seconds: [7.0 for _ in seconds], budget=1000)
    assert set(times["a"].seconds) == {7.0}


@pytest.mark.parametrize("elements", [1, 65535, 65536, 65537, 200_000])
def test_the_error_of_a_sum_is_its_distance_from_the_exact_one(elements):
    from ds_nccl_ring.bench.data import error, numbers

    total = sum(numbers(rank, elements).double() for rank in range(4))
    assert error(total, 4) < 1e-12
    assert error(total * 1.01, 4) == pytest.approx(0.01)
    assert not torch.equal(numbers(0, elements), numbers(1, elements))
