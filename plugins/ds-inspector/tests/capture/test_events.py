"""Understanding a profile, on events that are made up."""

import itertools

import numpy as np
import pytest
from ds_inspector.capture.clock import Clock
from ds_inspector.capture.events import parents, understood
from ds_inspector.capture.kineto import columns
from ds_inspector.capture.marks import MODULE, STEP
from ds_inspector.capture.sequence import matched, ordinals
from hypothesis import given
from hypothesis import strategies as st


class Device:
    def __init__(self, name):
        self.name = name


class Event:
    """One of kineto's."""

    def __init__(self, name, start, duration, activity="cpu_op", **known):
        self._known = {
            "name": name,
            "start_ns": start,
            "duration_ns": duration,
            "activity_type": activity,
            "start_thread_id": 1,
            "sequence_nr": -1,
            "fwd_thread_id": 0,
            "correlation_id": 0,
            "linked_correlation_id": 0,
            "device_type": Device("CPU"),
            "device_index": 0,
            "device_resource_id": 0,
            "shapes": [],
            "dtypes": [],
            "concrete_inputs": [],
            "flops": 0,
            **known,
        }

    def __getattr__(self, name):
        return lambda: self._known[name]


def step_on_a_gpu():
    gpu = {"device_type": Device("CUDA"), "device_resource_id": 7}
    return [
        Event(STEP, 100, 1000),
        Event(MODULE, 110, 300),
        Event(f"{MODULE}layer", 120, 200),
        Event("aten::linear", 130, 150, sequence_nr=5, correlation_id=1),
        Event("aten::t", 135, 10, sequence_nr=5, correlation_id=2),
        Event("aten::addmm", 150, 100, sequence_nr=6, correlation_id=3),
        Event("cudaLaunchKernel", 160, 20, "cuda_runtime", linked_correlation_id=3),
        Event("sgemm", 400, 500, "kernel", linked_correlation_id=3, **gpu),
        # The backward, on a thread of its own.
        Event("autograd::engine::evaluate_function: AddmmBackward0", 500, 300,
              start_thread_id=2, sequence_nr=6, fwd_thread_id=1, correlation_id=4),
        Event("aten::mm", 550, 100, start_thread_id=2, correlation_id=5),
        Event("sgemm", 950, 100, "kernel", linked_correlation_id=5, **gpu),
        Event("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad", 810, 20,
              start_thread_id=2, correlation_id=6),
        Event("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 102, 5,
              "user_annotation"),
        Event("Optimizer.step#AdamW.step", 900, 150, "user_annotation", correlation_id=7),
        Event("aten::add_", 910, 20, correlation_id=8),
        Event("[memory]", 555, 0, "cpu_instant_event"),
    ]  # fmt: skip


@pytest.fixture
def told():
    found = understood(columns(step_on_a_gpu()), {"": "Net", "layer": "Linear"})

    def row(name, lane=None):
        rows = [
            row
            for row in range(found.rows)
            if found.name[row] == name and (lane is None or found.raw.lane[row] == lane)
        ]
        return rows

    return found, row


def test_marks_are_gone_and_modules_named(told):
    found, row = told
    assert STEP not in set(found.name)
    assert "[memory]" not in set(found.name)
    assert [found.module[at] for at in row("nn.Module: Linear")] == ["layer"]
    assert found.seconds == pytest.approx(1000e-9)


def test_kernels_belong_to_the_operator_that_launched_them(told):
    found, row = told
    forward, backward = row("sgemm")
    assert {found.raw.lane[at] for at in (forward, backward)} == {"cuda:0 stream 7"}
    assert found.name[found.launched[forward]] == "aten::addmm"
    assert found.name[found.launched[backward]] == "aten::mm"
    assert [found.module[at] for at in (forward, backward)] == ["layer", "layer"]
    assert [found.phase[at] for at in (forward, backward)] == ["forward", "backward"]
    assert {found.kind[at] for at in (forward, backward)} == {"kernel"}


def test_a_backward_on_another_thread_finds_its_forward(told):
    found, row = told
    (mm,) = row("aten::mm")
    assert found.name[found.forward[mm]] == "aten::addmm"
    assert found.module[mm] == "layer"
    assert found.phase[mm] == "backward"


def test_what_accumulates_follows_the_node_before_it(told):
    found, row = told
    (at,) = row("autograd::engine::evaluate_function: torch::autograd::AccumulateGrad")
    assert found.module[at] == "layer"


def test_data_and_optimizer(told):
    found, row = told
    (data,) = row("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__")
    (add,) = row("aten::add_")
    assert found.phase[data] == "data"
    assert found.phase[add] == "optimizer"
    assert found.module[add] == ""


def test_nothing_outlasts_its_parent_or_the_step(told):
    found, _ = told
    end = found.start + found.duration
    assert (end <= found.seconds + 1e-15).all()
    inside = found.parent >= 0
    assert (end[inside] <= end[found.parent[inside]] + 1e-15).all()


SPANS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 12)), max_size=25)


@given(SPANS)
def test_a_parent_is_the_innermost_event_around(spans):
    spans = sorted(spans, key=lambda span: (span[0], span[1], -span[2]))
    lane, start, duration = (
        (np.array(column, int) for column in zip(*spans, strict=True))
        if (spans)
        else (np.zeros(0, int),) * 3
    )
    found = parents(lane, start, duration)
    ends = start + duration
    for row, above in enumerate(found.tolist()):
        around = [
            other
            for other in range(row)
            if lane[other] == lane[row] and start[other] <= start[row] < ends[other]
        ]
        # Spans that overlap without one lying in the other are no nesting: any open one will do.
        assert (above == -1) == (not around) or above in around
        if around and all(ends[other] >= ends[row] for other in around):
            nested = all(
                ends[first] >= ends[second] for first, second in itertools.pairwise(around)
            )
            if nested:
                assert above == around[-1]


KEYS = st.lists(st.integers(0, 3), max_size=20)


@given(KEYS)
def test_ordinals_count_earlier_equals(keys):
    expected = [keys[:row].count(key) for row, key in enumerate(keys)]
    assert ordinals(np.array(keys, int)).tolist() == expected


@given(KEYS, KEYS, st.booleans())
def test_calls_match_by_key_and_order(first, second, cyclic):
    found = matched([np.array(first, int)], [np.array(second, int)], cyclic=cyclic).tolist()
    for row, key in enumerate(first):
        places = [place for place, other in enumerate(second) if other == key]
        count, before = first.count(key), first[:row].count(key)
        fits = count == len(places) or (cyclic and places and count % len(places) == 0)
        assert found[row] == (places[before % len(places)] if fits and places else -1)


@given(
    st.lists(st.tuples(st.integers(1, 99), st.floats(0, 1)), max_size=10),
    st.lists(st.integers(-50, 250), min_size=2, max_size=20),
)
def test_a_clock_keeps_the_order_and_the_bounds_of_steps(calls, times):
    clock = Clock()
    calls = sorted(calls)
    when = np.array([100 + time for time, _ in calls], int)
    clock.add(0, 50, 0.0, 2.0)
    clock.add_calls(100, 200, 2.0, 1.0, when, np.array([place for _, place in calls], float))
    found = clock.seconds(np.sort(times))
    assert (np.diff(found) >= 0).all()
    assert clock.seconds(np.array([-5, 0, 25, 50, 75, 100, 200, 999])).tolist() == [
        0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0,
    ]  # fmt: skip
