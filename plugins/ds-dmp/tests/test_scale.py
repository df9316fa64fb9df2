"""The loss scale that suits all, and who is left out where none does."""

import math

from ds_dmp.scale import Interval, fit, nearest
from hypothesis import given
from hypothesis import strategies as st

POSITIVE = st.floats(2.0**-40, 2.0**40)


@given(st.dictionaries(st.text(max_size=2), st.tuples(POSITIVE, POSITIVE, st.floats(1, 9))))
def test_what_is_left_in_agrees(found):
    intervals = {name: Interval(*values) for name, values in found.items()}
    low, high, out = fit(intervals)
    assert low <= high
    for name, interval in intervals.items():
        if name not in out:
            assert interval.needed <= low
            assert interval.tolerated >= high


def test_the_cheaper_of_two_that_clash_is_left_out():
    head, trunk = Interval(2.0**20, 2.0**30, 1), Interval(1, 2.0**10, 100)
    assert fit({"head": head, "trunk": trunk}) == (1, 2.0**10, ["head"])


def test_one_that_bears_no_scale_is_left_out():
    assert fit({"a": Interval(0, 0.5, 1)}, smallest=1.0)[2] == ["a"]


@given(POSITIVE, POSITIVE, POSITIVE)
def test_nearest_is_inside_and_a_power_of_two(value, one, other):
    low, high = sorted((one, other))
    low, high = low, max(high, 2 * low)
    moved = nearest(value, low, high)
    assert low <= moved <= high
    if not low <= value <= high:
        assert math.frexp(moved)[0] == 0.5
    else:
        assert moved == value
