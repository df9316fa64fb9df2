"""What is chosen for each size, from whatever was timed."""

import json
import time

import pytest
import torch
from ds_nccl_ring.placement import Host, Placement
from ds_nccl_ring.plan import TopologyPlan
from ds_nccl_ring.selector import MARGIN, SIZES, Calibration, calibrate, candidates, chosen
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("flat", "hierarchical", "hierarchical-int8")
PAIR = Placement((Host("a", (0, 1), "10.0.0.1"), Host("b", (2, 3), "10.0.0.2")), "DS_NODE")

timings = st.dictionaries(
    st.sampled_from(SIZES),
    st.fixed_dictionaries({name: st.floats(1e-6, 1.0) for name in NAMES}),
    min_size=1,
)


@given(timings)
def test_nothing_slower_than_flat_is_ever_taken(seconds):
    plan = TopologyPlan.of(PAIR).model_copy(update={"algorithms": chosen(seconds)})
    for size, times in seconds.items():
        taken = plan.algorithm(size)
        assert times[taken] <= times["flat"]
        if taken == "flat":
            assert (
                min(times.values()) > MARGIN * times["flat"] or min(times.values()) == times["flat"]
            )
        else:
            assert times[taken] == min(times.values())
    assert plan.algorithm(min(seconds) - 1) == "flat"


@given(timings)
def test_a_calibration_survives_json(seconds):
    found = Calibration(chosen(seconds), seconds)
    assert Calibration.from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    ("wire", "names"),
    [
        ("float32", ["flat", "hierarchical"]),
        ("int8", ["flat", "hierarchical", "hierarchical-int8"]),
    ],
)
def test_a_lossy_format_is_timed_only_where_it_was_asked_for(wire, names):
    assert candidates(TopologyPlan.of(PAIR, wire=wire)) == names


def test_the_faster_one_is_found():
    pause = {"flat": 2e-2, "hierarchical": 0.0}
    found = calibrate(lambda tensor, name: time.sleep(pause[name]), list, ["flat", "hierarchical"])
    assert found.algorithms == ((0, "flat"), (SIZES[0], "hierarchical"))
    assert sorted(found.seconds) == list(SIZES)


def test_the_default_dtype_does_not_matter():
    timed = []
    torch.set_default_dtype(torch.float64)
    try:
        calibrate(lambda tensor, name: timed.append(tensor.nbytes), list, ["flat"])
    finally:
        torch.set_default_dtype(torch.float32)
    assert sorted(set(timed)) == list(SIZES)


def test_no_larger_size_is_begun_once_the_budget_is_spent():
    timed = []
    calibrate(
        lambda tensor, name: timed.append(tensor.nbytes),
        lambda times: [1.0 for _ in times],  # the slowest rank took a second
        ["flat", "hierarchical"],
    )
    assert set(timed) == {SIZES[0]}


def test_the_slowest_rank_decides():
    found = calibrate(
        lambda tensor, name: None,
        lambda times: [1e-3, 2e-3],  # another rank is slow at the second
        ["flat", "hierarchical"],
    )
    assert found.algorithms == ((0, "flat"),)
