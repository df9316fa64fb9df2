import math

import numpy as np
import pytest
from ds_inspector.analysis.difference import difference
from ds_inspector.analysis.shift import _rank, ratio_of, shift
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from hypothesis import given
from hypothesis import strategies as st
from synthetic import recordings, steps_of

samples = (
    st.lists(st.integers(1, 1000), min_size=1, max_size=12)
    .map(np.array)
    .map(lambda values: values.astype(float))
)


@pytest.mark.parametrize(
    ("sizes", "critical"),
    # Tables of Mann and Whitney's U, two-sided at 5%.
    [
        ((3, 3), -1),
        ((4, 4), 0),
        ((5, 5), 2),
        ((6, 6), 5),
        ((8, 8), 13),
        ((10, 10), 23),
        ((4, 9), 4),
        ((21, 21), 142),
    ],
)
def test_the_limits_are_those_of_the_tables(sizes, critical):
    assert _rank(*sizes) == critical


def test_it_encloses_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        found = shift(rng.exponential(size=8), 3.0 + rng.exponential(size=8))
        hits += found.low <= 3.0 <= found.high
    assert 940 <= hits <= 985


@given(samples, samples, st.integers(-50, 50))
def test_a_shift_moves_with_its_samples_and_turns_with_them(before, after, by):
    found, moved, turned = shift(before, after), shift(before, after + by), shift(after, before)
    assert moved.middle == pytest.approx(found.middle + by)
    assert turned.middle == pytest.approx(-found.middle)
    if found.low is not None:
        assert found.low <= found.middle <= found.high
        assert turned.low == pytest.approx(-found.high)


@given(samples, st.floats(0.1, 10))
def test_a_ratio_is_free_of_units(values, factor):
    found = ratio_of(values, values * factor)
    assert found.middle == pytest.approx(factor)


@given(recordings())
def test_a_recording_does_not_differ_from_itself(recording):
    found = difference(recording, recording)
    assert found["steps"]["ratio"] in (1.0, pytest.approx(1.0)) or math.isnan(
        found["steps"]["ratio"]
    )
    for row in found["modules"] + found["operators"]:
        assert row["change"] == pytest.approx(0.0)
        assert not row["sure"]


def noisy(scale, share):
    rng = np.random.default_rng(7)
    return steps_of(
        scale * (1 + 0.02 * rng.random(8)),
        [("aten::mm", "slow", share), ("aten::add", "same", 0.1)],
    )


def test_what_changed_is_sure_and_what_did_not_is_not():
    found = difference(noisy(1.0, 0.8), noisy(1.0, 0.4))
    rows = {row["module"]: row for row in found["modules"]}
    assert next(iter(rows)) == "slow"
    assert rows["slow"]["sure"]
    assert rows["slow"]["change"] == pytest.approx(-0.4, rel=0.1)
    assert rows["slow"]["high"] < 0
    assert not rows["same"]["sure"]
    assert found["operators"][0]["op"] == "aten::mm"


def test_steps_are_compared_by_their_lengths():
    found = difference(noisy(1.0, 0.8), noisy(2.0, 0.8))["steps"]
    assert found["ratio"] == pytest.approx(2.0, rel=0.05)
    assert 1.9 < found["low"] < found["high"] < 2.1
    assert found["after"]["median"] > found["before"]["median"]


def test_three_steps_are_too_few_to_be_sure():
    found = difference(
        steps_of([1.0, 1.1, 1.2], [("x", "m", 1.0)]), steps_of([9.0, 9.1, 9.2], [("x", "m", 1.0)])
    )
    assert found["steps"]["low"] is None
    assert not any(row["sure"] for row in found["modules"])


def test_what_is_new_or_gone_changes_by_all_of_its_time():
    old, new = steps_of([1.0] * 5, [("x", "old", 1.0)]), steps_of([1.0] * 5, [("x", "new", 0.5)])
    rows = {row["module"]: row for row in difference(old, new)["modules"]}
    assert rows["old"]["change"] == pytest.approx(-1.0)
    assert rows["new"]["before"] == 0.0
    assert rows["new"]["change"] == pytest.approx(0.5)


def named(*modules):
    events = {
        "start": np.arange(len(modules), dtype=float),
        "duration": np.ones(len(modules)),
        "name": ["aten::mm"] * len(modules),
        "kind": ["operator"] * len(modules),
        "module": list(modules),
    }
    return Recording(About(title="m", origin="torch"), {"events": Table("events", events)})


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("abcde", "abcde", True),
        ("abcde", "eghij", True),
        ("abcdef", "fghijk", False),
        ("abcdef", "ghijkl", False),
        ("ab", "cd", True),  # too few to tell
        ("abcde", ("", "", ""), True),  # as of a compiled model
    ],
)
def test_other_models_are_told_apart(one, other, alike):
    problems = difference(named(*one), named(*other))["problems"]
    assert problems == [] if alike else "different models" in problems[0]
