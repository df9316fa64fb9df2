"""What is chosen holds the target, tightly, and says so where none can."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ds_prune.choice import choose
from ds_prune.target import ROUNDING, Target
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from structures import layered, scores, structures

from ds_core.errors import RefusedError


def shares(structure, kept):
    return {
        "flops": structure.multiply_adds(kept) / structure.multiply_adds({}),
        "params": structure.parameters(kept) / structure.parameters({}),
    }


def holds(structure, kept, target):
    found = shares(structure, kept)
    return all(found[kind] <= share * (1 + 1e-12) for kind, share in target.bounds().items())


def ascending(structure):
    return {group.name: np.arange(1.0, group.count + 1) for group in structure.groups}


targets = st.builds(
    lambda kinds, least: Target(**kinds, min_kept=least),
    st.dictionaries(st.sampled_from(["flops", "params"]), st.floats(0.05, 1), min_size=1),
    st.sampled_from([0.01, 0.1, 0.5]),
)


@settings(max_examples=200, deadline=None)
@given(st.data(), targets, st.sampled_from(["global", "layer"]), st.sampled_from([1, 1, 2, 4, 6]))
def test_the_target_holds_tightly(data, target, scope, multiple):
    structure = data.draw(structures())
    values = data.draw(scores(structure))
    options = {"round_to": multiple, "scope": scope, "by_saving": data.draw(st.booleans())}
    try:
        kept = choose(structure, values, target, **options)
    except RefusedError as error:
        kind, reachable = re.match(r"(\w+)=\S+ cannot .* least, (\S+) of", str(error)).groups()
        assert float(reachable) > target.bounds()[kind], "it could be reached"
        possible = Target(**{kind: float(reachable)}, min_kept=target.min_kept)
        assert holds(structure, choose(structure, values, possible, **options), possible)
        closer = float(reachable) - 0.001
        if closer > 0:
            with pytest.raises(RefusedError):
                choose(
                    structure, values, Target(**{kind: closer}, min_kept=target.min_kept), **options
                )
        return
    assert holds(structure, kept, target)
    same = choose(structure, values, target, **options)
    assert {name: mask.tolist() for name, mask in kept.items()} == {
        name: mask.tolist() for name, mask in same.items()
    }
    for group in structure.groups:
        mask = kept.get(group.name, np.ones(group.count, bool))
        removed = values[group.name][~mask]
        if len(removed):
            assert mask.sum() >= max(1, target.min_kept * group.count - 1e-6)
            assert (mask.sum() * group.members[0].index.shape[1]) % multiple == 0
            assert removed.max() <= values[group.name][mask].min(), "a more important one went"
        else:
            assert group.name not in kept
    if multiple == 1:
        for name, mask in kept.items():
            best = np.flatnonzero(~mask)[-1]
            for atom in np.flatnonzero(~mask):
                if values[name][atom] >= values[name][best]:
                    best = atom
            more = {**kept, name: mask.copy()}
            more[name][best] = True
            assert not holds(structure, more, target), f"{name} could keep one more"


@given(st.data())
def test_a_group_that_matters_more_than_all_others_stays_whole(data):
    width = data.draw(st.integers(8, 64))
    structure = layered([width, width])
    dear = {"layer0": np.full(width, 1e6), "layer1": np.full(width, 1.0)}
    kept = choose(structure, dear, Target(flops=0.8))
    assert set(kept) == {"layer1"}


def test_a_share_that_rounding_alone_misses_holds():
    structure = layered([8, 8])
    one = {group.name: np.ones(group.count) for group in structure.groups}
    assert choose(structure, one, Target(flops=np.nextafter(1.0, 0.0))) == {}


def test_equal_scores_go_where_most_is_saved():
    structure = layered([32, 32, 32], first=3, last=3)  # the middle one is in two large products
    kept = choose(structure, {g.name: np.ones(32) for g in structure.groups}, Target(flops=0.7))
    assert set(kept) == {"layer1"}


def test_relative_scores_are_not_weighed_against_savings():
    structure = layered([32, 32, 32])
    scores = {group.name: np.linspace(0.5, 1.5, 32) for group in structure.groups}
    kept = choose(structure, scores, Target(flops=0.5), by_saving=False)
    counts = [mask.sum() for mask in kept.values()]
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 4
    by_saving = choose(structure, scores, Target(flops=0.5))
    counts = [by_saving[name].sum() if name in by_saving else 32 for name in scores]
    assert max(counts) - min(counts) > 4


def test_ratio_takes_the_same_share_of_each_group():
    structure = layered([10, 20, 40])
    kept = choose(structure, ascending(structure), Target(ratio=0.4))
    assert [mask.sum() for mask in kept.values()] == [6, 12, 24]
    assert not kept["layer0"][:4].any()


def test_ratio_and_a_bound_both_hold():
    structure = layered([10, 20, 40])
    kept = choose(structure, ascending(structure), Target(ratio=0.2, params=0.4))
    assert structure.parameters(kept) <= 0.4 * structure.parameters({})
    for group in structure.groups:
        assert kept[group.name].sum() <= 0.8 * group.count


def test_scope_layer_shrinks_all_alike():
    structure = layered([40, 40, 40])
    uneven = {"layer0": np.full(40, 1e-9), "layer1": np.ones(40), "layer2": np.full(40, 1e9)}
    kept = choose(structure, uneven, Target(flops=0.5), scope="layer")
    counts = [mask.sum() for mask in kept.values()]
    assert max(counts) - min(counts) <= 2
    alone = choose(structure, uneven, Target(flops=0.5))
    assert alone["layer0"].sum() == 4
    assert "layer2" not in alone


def test_channels_are_multiples_and_not_atoms():
    structure = layered([64, 48], [4, 1])
    kept = choose(structure, ascending(structure), Target(flops=0.2), round_to=8)
    assert kept["layer0"].sum() % 2 == 0
    assert kept["layer1"].sum() % 8 == 0


def test_both_halves_of_a_gated_layer_are_multiples():
    gated = layered([64])
    (group,) = gated.groups
    halves = np.stack([np.arange(64), 64 + np.arange(64)], 1)  # made twice, used as a product
    made = [replace(member, index=halves) for member in group.members[:2]]
    structure = replace(gated, groups=(replace(group, members=(*made, group.members[2])),))
    kept = choose(structure, ascending(structure), Target(ratio=0.3), round_to=8)
    assert kept["layer0"].sum() == 40


def test_rounding_may_differ_from_group_to_group():
    structure = layered([48, 48])
    kept = choose(structure, ascending(structure), Target(ratio=0.3), round_to={"layer0": 32})
    assert [mask.sum() for mask in kept.values()] == [32, 33]


def test_a_group_without_a_whole_multiple_stays_whole():
    structure = layered([8, 64])
    kept = choose(structure, ascending(structure), Target(ratio=0.5), round_to=16)
    assert set(kept) == {"layer1"}


def test_layers_that_are_named_lose_what_is_said():
    structure = layered([10, 20, 40])
    target = Target(layers={"layer0": 0, "layer1": 0.25}, flops=0.7)
    kept = choose(structure, ascending(structure), target)
    assert "layer0" not in kept
    assert kept["layer1"].sum() == 15
    assert holds(structure, kept, target)


def test_names_of_layers_are_checked():
    structure = layered([10, 20])
    with pytest.raises(RefusedError, match="Did you mean 'layer1'"):
        choose(structure, ascending(structure), Target(layers={"layr1": 0.5}))


def test_normalised_groups_are_taken_only_when_asked_for():
    structure = layered([20, 20], normalised=[0])
    values = ascending(structure)
    assert set(choose(structure, values, Target(ratio=0.5))) == {"layer1"}
    assert len(choose(structure, values, Target(ratio=0.5), normalised=True)) == 2
    assert set(choose(structure, values, Target(layers={"layer0": 0.5}))) == {"layer0"}


def test_groups_without_scores_stay_whole():
    structure = layered([20, 20])
    assert set(choose(structure, {"layer1": np.arange(20.0)}, Target(ratio=0.5))) == {"layer1"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layer7": np.ones(20)}, "a group 'layer7'"),
        ({"layer0": np.ones(19)}, "20 atoms"),
        ({"layer0": np.full(20, np.nan)}, "finite"),
        ({"layer0": -np.ones(20)}, "from 0 up"),
    ],
)
def test_scores_that_do_not_fit_are_refused(values, words):
    with pytest.raises(RefusedError, match=words):
        choose(layered([20]), values, Target(ratio=0.5))


def test_latency_needs_times():
    structure = layered([20])
    with pytest.raises(RefusedError, match="no measured times"):
        choose(structure, ascending(structure), Target(latency=0.5))


@given(st.integers(1, 16), st.floats(0.3, 1), st.integers(0, 9))
@settings(deadline=None)
def test_latency_in_steps_is_met(step, share, seed):
    """Times that change at multiples only, and even rise now and then as layers shrink."""
    structure = layered([64, 96])
    noise = np.random.default_rng(seed).uniform(0.9, 1.1, 100)

    def latency(kept):
        widths = [int(kept[n].sum()) if n in kept else w for n, w in sizes.items()]
        return 10 + sum(-(-width // step) * step * noise[width] for width in widths)

    sizes = {group.name: group.count for group in structure.groups}
    assume(
        latency({n: np.arange(w) < 0.1 * w for n, w in sizes.items()}) < share * latency({}) * 0.9
    )
    try:
        kept = choose(structure, ascending(structure), Target(latency=share), latency=latency)
    except RefusedError:
        assert step > 6  # where the fewest atoms happen to take longer than they should
        return
    assert latency(kept) <= share * latency({}) * (1 + ROUNDING)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("by_saving", [True, False])
def test_what_saves_nothing_stays_whatever_it_is_worth(by_saving):
    structure = layered([64, 64])

    def latency(kept):
        return 1 + float(kept["layer0"].sum() if "layer0" in kept else 64)

    scores = {"layer0": np.arange(1.0, 65), "layer1": np.zeros(64)}
    target = Target(latency=0.6)
    kept = choose(structure, scores, target, latency=latency, by_saving=by_saving)
    assert set(kept) == {"layer0"}


def test_ten_thousand_atoms_take_few_counts():
    """Choosing is not slower for more atoms than it must be: costs are not counted for each."""
    calls = 0

    def latency(kept):
        nonlocal calls
        calls += 1
        return float(
            sum(kept[f"layer{n}"].sum() if f"layer{n}" in kept else 500 for n in range(20))
        )

    structure = layered([500] * 20)
    kept = choose(structure, ascending(structure), Target(latency=0.4), latency=latency)
    assert latency(kept) == 4000
    assert calls < 1500
