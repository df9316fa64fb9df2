"""Laws of choosing bits under a budget."""

import itertools

from ds_dmp.lean.budget import WIDTHS, Layer, choose_bits, variance
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def layers(draw):
    found = []
    for index in range(draw(st.integers(0, 8))):
        numel, itemsize = draw(st.integers(1, 10**6)), draw(st.sampled_from([2, 4]))
        size = {bits: -(-numel * bits // 8) for bits in (2, 4, 8)} | {16: numel * itemsize}
        error = draw(st.floats(0, 1e9))
        found.append(Layer(f"layer{index}", error, size))
    return found


budgets = st.integers(0, 10**8)


@given(layers(), budgets, st.integers(0, 10**6))
def test_a_budget_is_kept_or_said_not_to_be(layers, budget, fixed):
    choice = choose_bits(layers, budget, fixed)
    assert choice.size == fixed + sum(layer.size[choice.bits[layer.name]] for layer in layers)
    assert choice.error == sum(variance(layer, choice.bits[layer.name]) for layer in layers)
    least = fixed + sum(layer.size[WIDTHS[0]] for layer in layers)
    assert choice.feasible == (least <= budget) == (choice.size <= budget)
    if not choice.feasible:
        assert choice.size == least


@given(layers(), budgets, budgets)
def test_a_larger_budget_takes_bits_from_no_layer(layers, one, other):
    small, large = (choose_bits(layers, budget) for budget in sorted((one, other)))
    assert all(small.bits[name] <= large.bits[name] for name in small.bits)
    assert large.error <= small.error


@given(layers())
def test_a_budget_for_all_changes_nothing(layers):
    choice = choose_bits(layers, sum(layer.size[16] for layer in layers))
    assert set(choice.bits.values()) <= {16}
    assert choice.error == 0


@given(layers(), budgets)
def test_no_single_layer_could_be_better_off_within_the_budget_for_less(layers, budget):
    """Whatever the choice left out gains less for a byte than anything that it took."""
    choice = choose_bits(layers, budget)
    if not choice.feasible:
        return
    taken, left = [float("inf")], [0.0]
    for layer in layers:
        for low, high in itertools.pairwise(WIDTHS):
            cost = layer.size[high] - layer.size[low]
            if cost > 0:
                gain = (variance(layer, low) - variance(layer, high)) / cost
                (taken if high <= choice.bits[layer.name] else left).append(gain)
    slack = 1 + 4 / min((layer.size[2] for layer in layers), default=1)  # sizes are whole bytes
    if min((layer.size[2] for layer in layers), default=1) > 100:
        assert max(left) <= min(taken) * slack
