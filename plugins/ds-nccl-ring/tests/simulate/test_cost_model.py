"""The cost model: what algorithms send, and laws between them."""

import pytest
from ds_nccl_ring.bounds import uplink_bytes
from ds_nccl_ring.simulate.model import ALGORITHMS, Costs, Shape, Terms, terms
from ds_nccl_ring.simulate.outlook import Clock, outlook
from ds_nccl_ring.simulate.published import PROTOCOLS
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20
RATE = 1e9

shapes = st.builds(Shape, st.integers(2, 512), st.integers(1, 16), st.just(RATE))
sizes = st.integers(1, 1 << 32)


def crossed(algorithm, shape, nbytes):
    """Bytes on the busiest uplink."""
    return terms(algorithm, shape, nbytes).uplink * RATE


@given(shapes, sizes)
def test_no_exact_algorithm_sends_less_than_the_bound(shape, nbytes):
    for algorithm in ("flat", "interleaved", "tree", "hierarchical", "parameter-server"):
        least = uplink_bytes(nbytes, shape.hosts)
        assert crossed(algorithm, shape, nbytes) >= least * (1 - 1e-9), algorithm


@given(shapes, sizes)
def test_a_hierarchical_ring_meets_the_bound_in_each_format(shape, nbytes):
    for wire, name in (
        ("float32", "hierarchical"),
        ("bfloat16", "hierarchical-bfloat16"),
        ("int8", "hierarchical-int8"),
    ):
        bound = uplink_bytes(nbytes, shape.hosts, wire)
        assert crossed(name, shape, nbytes) == pytest.approx(bound)


@given(shapes, sizes)
def test_dealt_ranks_send_as_often_as_a_host_has_ranks(shape, nbytes):
    flat, dealt = (crossed(name, shape, nbytes) for name in ("flat", "interleaved"))
    assert dealt == pytest.approx(shape.ranks * flat)


def test_what_is_sent_by_hand():
    shape = Shape(4, 2, RATE)
    assert crossed("flat", shape, 8 * MIB) == 2 * 7 / 8 * 8 * MIB
    assert crossed("hierarchical", shape, 8 * MIB) == 2 * 3 / 4 * 8 * MIB
    assert crossed("tree", shape, 8 * MIB) == 16 * MIB
    assert crossed("parameter-server", shape, 8 * MIB) == 2 * 6 * 8 * MIB
    messages = {name: terms(name, shape, MIB).messages for name in ALGORITHMS}
    assert messages["flat"] == messages["hierarchical"] == 6
    assert messages["interleaved"] == 14
    assert messages["tree"] == 4


@given(st.sampled_from(list(ALGORITHMS)), st.integers(1, 16), sizes)
def test_a_single_host_sends_nothing(algorithm, ranks, nbytes):
    found = terms(algorithm, Shape(1, ranks, RATE), nbytes)
    assert found.uplink == 0
    assert found.messages == 0


@given(st.sampled_from(list(ALGORITHMS)), shapes, sizes)
def test_larger_tensors_and_more_hosts_never_take_less(algorithm, shape, nbytes):
    for costs in PROTOCOLS.values():
        seconds = costs[algorithm].seconds(terms(algorithm, shape, nbytes))
        larger = costs[algorithm].seconds(terms(algorithm, shape, nbytes + 1))
        more = Shape(shape.hosts + 1, shape.ranks, shape.rate)
        assert seconds <= larger
        assert seconds <= costs[algorithm].seconds(terms(algorithm, more, nbytes)) * (1 + 1e-9)


def test_costs_multiply_terms():
    assert Costs(1, 2, 3, 4, 5).seconds(Terms(1, 10, 100, 1000, 10000)) == 1 + 20 + 300 + 54000


def test_at_many_ranks_latency_decides_and_a_tree_beats_both_rings():
    """25 MB on 128 nodes of eight: the rings take about 10 and 4 ms by Simple's latencies."""
    found = outlook(Clock(protocol="Simple"), Shape(128, 8, Clock().rate), 25_000_000)
    assert found.seconds["flat"] == pytest.approx(9.8e-3, rel=0.03)
    assert found.seconds["hierarchical"] == pytest.approx(3.8e-3, rel=0.03)
    assert found.best == "tree"
    assert found.seconds["tree"] < 0.2 * found.seconds["hierarchical"]


def test_the_faster_protocol_is_taken_for_each_algorithm():
    shape = Shape(128, 8, Clock().rate)
    either = outlook(Clock(), shape, 25 * MIB)
    only = {name: outlook(Clock(protocol=name), shape, 25 * MIB) for name in PROTOCOLS}
    for algorithm, seconds in either.seconds.items():
        assert seconds == min(each.seconds[algorithm] for each in only.values())
        assert only[either.protocol[algorithm]].seconds[algorithm] == seconds
