"""The progressive schedule."""

from ds_dmp.recipe import Recipe
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 30), st.integers(1, 40))
def test_layers_enter_by_risk_and_leave_at_the_tail(warmup, ramp, tail, units):
    total = warmup + ramp + tail + 20
    recipe = Recipe(warmup, ramp, tail, total)
    dangers = {f"layer{i}": float(i) for i in range(units)}
    held = [recipe.held(step, dangers) for step in range(total)]
    assert all(len(names) == units for names in held[:warmup])
    assert all(len(names) == units for names in held[total - tail :])
    inside = [len(names) for names in held[warmup : total - tail]]
    assert inside == sorted(inside, reverse=True)
    assert inside[ramp:] == [0] * len(inside[ramp:])
    for names in held:  # those held are the ones most at risk
        assert set(names) == {f"layer{i}" for i in range(units - len(names), units)}


def test_phases():
    recipe = Recipe(2, 3, tail=2, total=10)
    assert [recipe.phase(step) for step in range(10)] == (
        ["warm-up"] * 2 + ["ramp"] * 3 + ["open"] * 3 + ["tail"] * 2
    )
