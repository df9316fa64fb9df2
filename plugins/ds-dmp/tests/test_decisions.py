"""The rules of changing dtypes, without torch."""

import math

import pytest
from ds_dmp.decisions import MAX_PATIENCE, Decisions
from ds_dmp.evidence import Evidence, Limits, Spread
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(error=0.05, impact=0.1, flush=0.05, logit=0.1)
LADDER = ("bf16", "fp32")


def off(error, **more):
    return Evidence(calls=1, forward={"bf16": error, "fp16": error / 8}, **more)


def decisions(units=("a",), ladder=LADDER, **options):
    return Decisions(units, ladder, LIMITS, **options)


def look(made, step=1, **errors):
    return made.look({unit: [off(error)] for unit, error in errors.items()}, step)


def test_one_look_slightly_over_a_limit_changes_nothing_two_do():
    made = decisions()
    assert not look(made, a=0.06)
    (flip,) = look(made, 2, a=0.06)
    assert (flip.unit, flip.before, flip.after, flip.step) == ("a", "bf16", "fp32", 2)
    assert "off by 0.06" in flip.why


def test_trouble_must_be_in_a_row():
    made = decisions()
    for error in (0.06, 0.01, 0.06, 0.01):
        assert not look(made, a=error)


def test_far_over_a_limit_counts_at_once():
    assert look(decisions(), a=0.3)


def test_inf_out_of_finite_numbers_counts_at_once():
    made = decisions()
    assert made.look({"a": [off(0, broken="forward")]}, 1)


def test_demotion_needs_patience_which_a_relapse_doubles():
    made = decisions(patience=3)
    look(made, a=1)
    quiet = [bool(look(made, a=0.001)) for _ in range(3)]
    assert quiet == [False, False, True]
    assert made.dtype("a") == "bf16"
    look(made, a=1)
    quiet = [bool(look(made, a=0.001)) for _ in range(6)]
    assert quiet == [False] * 5 + [True]


def test_between_relief_and_limit_nothing_moves():
    made = decisions(patience=1)
    look(made, a=1)
    assert not any(look(made, a=0.04) for _ in range(20))


def test_the_worst_go_first_where_flips_are_limited():
    made = decisions("abc", max_flips=2)
    assert [flip.unit for flip in look(made, a=0.5, b=2, c=1)] == ["b", "c"]
    assert [flip.unit for flip in look(made, a=0.5, b=2, c=1)] == ["a"]


def test_a_unit_that_was_not_called_is_left_alone():
    made = decisions()
    assert not made.look({"a": [Evidence(forward={"bf16": 9.0})]}, 1)
    assert not made.standings["a"].seen


def test_the_worst_layer_of_a_unit_decides():
    made = decisions()
    assert made.look({"a": [off(0.001), off(1)]}, 1)


def test_held_units_stay_but_their_danger_is_known():
    made = decisions()
    assert not made.look({"a": [off(1)]}, 1, held=["a"])
    assert made.standings["a"].danger == pytest.approx(20)


def test_another_16_bit_dtype_is_tried_before_float32():
    made = decisions(ladder=("bf16", "fp16", "fp32"))
    (flip,) = look(made, a=0.3)  # float16's error is an eighth of it
    assert flip.after == "fp16"
    made = decisions(ladder=("fp16", "bf16", "fp32"))
    (flip,) = made.look({"a": [off(0.001, output_peak=1e5)]}, 1)
    assert flip.after == "bf16"


def test_a_conflict_of_scales_takes_a_unit_out_of_float16():
    made = decisions(ladder=("fp16", "fp32"))
    (flip,) = made.look({"a": [off(0.001)]}, 1, conflicts=["a"])
    assert "no loss scale" in flip.why


@given(st.lists(st.lists(st.floats(0, 2), min_size=3, max_size=3), max_size=40), st.integers(1, 3))
def test_whatever_happens(history, limit):
    """Flips are limited, recorded, and the state can be taken up anywhere."""
    made = decisions("abc", ladder=("bf16", "fp16", "fp32"), max_flips=limit, patience=2)
    for step, errors in enumerate(history):
        copy = decisions("abc", ladder=("bf16", "fp16", "fp32"), max_flips=limit, patience=2)
        copy.load_state_dict(made.state_dict())
        evidence = {unit: [off(error)] for unit, error in zip("abc", errors, strict=True)}
        flips = made.look(evidence, step)
        assert flips == copy.look(evidence, step)
        assert len(flips) <= limit
        for flip in flips:
            assert made.dtype(flip.unit) == flip.after != flip.before
            # Nobody is sent to a dtype that is known to be unsafe.
            danger = evidence[flip.unit][0].danger(flip.after, flip.before, 1.0, LIMITS)
            assert danger.value <= 1
        assert all(s.patience <= MAX_PATIENCE for s in made.standings.values())


@given(st.floats(-60, 30), st.floats(0.5, 10), st.floats(0.001, 0.3))
def test_a_scale_that_is_needed_is_enough(mean, deviation, limit):
    spread = Spread(count=100, mean=mean, deviation=deviation)
    scale = spread.scale_for(limit)
    assert spread.flushed(scale) <= limit * 1.001
    assert scale == 2.0**-120 or spread.flushed(scale / 2) >= limit * 0.999


@given(st.floats(-40, 10), st.floats(0.1, 8))
def test_more_scale_flushes_less(mean, deviation):
    spread = Spread(count=1, mean=mean, deviation=deviation)
    shares = [spread.flushed(2.0**power) for power in range(0, 24, 4)]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 1 for share in shares)


def test_peaks_say_which_scale_is_tolerated():
    found = Evidence(calls=1, outgoing=Spread(count=1, peak=1.0), scale=16)
    assert found.tolerated_scale() == 16 * 65504 / 4
    broken = Evidence(calls=1, outgoing=Spread(count=1, peak=math.inf), scale=16)
    assert broken.tolerated_scale() == 4


def test_a_backward_that_overflows_float16_is_a_matter_of_scale_but_not_in_bfloat16():
    found = Evidence(calls=1, broken="backward")
    assert found.danger("fp16", "fp16", 1.0, LIMITS).value == 0
    assert found.danger("bf16", "bf16", 1.0, LIMITS).value == math.inf
