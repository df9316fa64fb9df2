"""Calibration: costs are found again in times that were made with them."""

import pytest
from ds_nccl_ring.bench.figures import Figures, Row
from ds_nccl_ring.simulate import fit, words
from ds_nccl_ring.simulate.fit import Point
from ds_nccl_ring.simulate.model import Costs, Shape, terms
from ds_nccl_ring.simulate.outlook import Clock, outlook
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.errors import RefusedError

KIB, MIB = 1 << 10, 1 << 20
RATE = 25e6
SIZES = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB]
SHAPES = [Shape(2, 2, RATE), Shape(4, 2, RATE), Shape(4, 4, 5 * RATE), Shape(3, 1, RATE)]

costs = st.builds(
    Costs,
    start=st.floats(0, 1e-2),
    messages=st.floats(1e-5, 1e-2),
    local_messages=st.floats(0, 1e-3),
    uplink=st.floats(1.0, 1.3),
    local=st.floats(0, 1e-8),
)


def made(algorithm, costs, shapes=SHAPES, sizes=SIZES):
    return [
        Point(algorithm, shape, nbytes, costs.seconds(terms(algorithm, shape, nbytes)))
        for shape in shapes
        for nbytes in sizes
    ]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["flat", "interleaved", "hierarchical"]), costs)
def test_times_of_the_model_are_explained_on_shapes_that_were_not_seen(algorithm, costs):
    points = made(algorithm, costs)
    found = fit.misses({algorithm: fit.costs(points)}, points)
    assert found.worst < 1e-6
    other = made(algorithm, costs, [Shape(8, 2, 2 * RATE)], [2 * MIB])
    assert fit.misses({algorithm: fit.costs(points)}, other).worst < 1e-4


@settings(deadline=None, max_examples=20)
@given(costs, st.lists(st.floats(0.5, 2), min_size=20, max_size=20))
def test_no_cost_is_negative_whatever_the_noise(costs, noise):
    points = [
        Point(point.algorithm, point.shape, point.nbytes, point.seconds * factor)
        for point, factor in zip(made("flat", costs), noise, strict=True)
    ]
    found = fit.costs(points)
    assert min(found.start, found.messages, found.local_messages, found.uplink, found.local) >= 0


def test_leaving_out_shows_what_the_fit_cannot_know():
    points = made("flat", Costs(1e-3, 1e-4, 0, 1.1, 0))
    exact = fit.leave_one_out(points)
    assert exact.worst < 1e-6
    points[0] = Point("flat", points[0].shape, points[0].nbytes, points[0].seconds * 3)
    spoiled = fit.leave_one_out(points)
    assert spoiled.worst > 0.5
    assert spoiled.median <= spoiled.worst
    assert fit.leave_one_out(points[:2]) is None


def bench(hosts=(2, 2, 2, 2), algorithms=("flat", "hierarchical"), emulated=True, rate=RATE):
    given_ = Costs(2e-3, 5e-4, 1e-4, 1.05, 1e-9)
    rows = []
    for algorithm in algorithms:
        for nbytes in SIZES:
            shape = Shape(len(hosts), hosts[0], rate or RATE)
            seconds = given_.seconds(terms(algorithm, shape, nbytes))
            told = {"low": seconds, "high": seconds, "rounds": 3, "error": 0.0}
            rows.append(
                Row(
                    algorithm=algorithm,
                    nbytes=nbytes,
                    elements=nbytes // 4,
                    seconds=seconds,
                    **told,
                )
            )
    return Figures(hosts=hosts, emulated=emulated, rate=rate, rows=tuple(rows))


def test_one_benchmark_predicts_its_own_cluster():
    figures = bench()
    clock = Clock([figures])
    shape = Shape(4, 2, RATE)
    for row in figures.rows:
        seconds, protocol = clock.seconds(row.algorithm, shape, row.nbytes)
        assert seconds == pytest.approx(row.seconds, rel=1e-3)
        assert protocol == ""
    assert clock.left_out["worst"] < 1e-3
    assert "emulated" in clock.source
    assert clock.algorithms == ["flat", "hierarchical"]
    found = outlook(clock, Shape(8, 2, RATE), MIB)
    assert set(found.seconds) == {"flat", "hierarchical"}
    assert found.what == "simulated"


@pytest.mark.parametrize("options", [{"hosts": (2, 3)}, {"hosts": (4,), "rate": None}])
def test_hosts_that_differ_calibrate_nothing(options):
    with pytest.raises(RefusedError, match="calibrates nothing"):
        Clock([bench(**options)])


def test_rounded_numbers_alone_are_simulated_and_none_is_the_fastest_exact_one():
    clock = Clock([bench(algorithms=("hierarchical-int8",))])
    found = outlook(clock, Shape(8, 2, RATE), MIB)
    assert found.best is None
    assert words.tables(found)
    assert not any("Fastest" in sentence for sentence in words.remarks(found))


def test_what_no_costs_are_known_of_calibrates_nothing():
    figures = bench()
    rows = tuple(row.model_copy(update={"algorithm": "chosen"}) for row in figures.rows)
    with pytest.raises(RefusedError, match="No algorithm that can be simulated was timed"):
        Clock([figures.model_copy(update={"rows": rows})])
