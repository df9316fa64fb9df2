import numpy as np
import pytest
import torch
from ds_inspector.analysis.flops import flops
from ds_inspector.analysis.operators import flops_in_all, operators
from ds_inspector.analysis.roofline import bounds, measure_peaks
from ds_inspector.analysis.summary import summary
from ds_inspector.analysis.timing import timing
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from hypothesis import given
from hypothesis import strategies as st
from synthetic import recordings, steps_of
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


@given(recordings())
def test_rows_hold_all_time_of_operators(recording):
    found = operators(recording)["columns"]
    kinds, time = recording.events.texts("kind"), timing(recording)
    operator = kinds.equal("operator")
    if operator.any():
        expected = time.own[(time.operator >= 0) if time.on_device else operator].sum()
        assert found["calls"].sum() == operator.sum()
        assert np.sum(found["seconds"]) == pytest.approx(expected)
    keys = list(
        zip(*(found[key] for key in ("op", "module", "dtype", "shapes", "phase")), strict=True)
    )
    assert len(set(keys)) == len(keys)
    assert len({len(column) for column in found.values()}) == 1


def calls(run):
    """Operators that torch counts in `run`, and what it counts."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


sizes = st.integers(1, 6)


@given(sizes, sizes, sizes, sizes)
def test_products_are_counted_as_torch_counts_them(b, m, k, n):
    left, right = torch.ones(b, m, k), torch.ones(b, k, n)
    assert flops("aten::bmm", [(b, m, k), (b, k, n)]) == calls(lambda: left @ right)
    assert flops("aten::mm", [(m, k), (k, n)]) == calls(lambda: left[0] @ right[0])
    bias = torch.ones(n)
    count = calls(lambda: torch.addmm(bias, left[0], right[0]))
    assert flops("aten::addmm", [(n,), (m, k), (k, n)]) == count
    count = calls(lambda: functional.linear(left, torch.ones(n, k)))
    assert flops("aten::linear", [(b, m, k), (n, k)]) == count
    assert flops("MatMul", [(b, m, k), (k, n)]) == count


@given(sizes, st.integers(1, 3), st.integers(1, 3), st.integers(3, 7), st.sampled_from([1, 2]))
def test_convolutions_are_counted_as_torch_counts_them(batch, inside, outside, size, groups):
    image = torch.ones(batch, inside * groups, size, size, requires_grad=True)
    weight = torch.ones(outside * groups, inside, 3, 3, requires_grad=True)
    output = functional.conv2d(image, weight, groups=groups)
    count = calls(lambda: functional.conv2d(image, weight, groups=groups))
    shapes = [tuple(image.shape), tuple(weight.shape)]
    assert flops("aten::mkldnn_convolution", shapes, tuple(output.shape)) == count
    backward = calls(lambda: output.sum().backward())
    shapes = [tuple(output.shape), *shapes]
    if groups == 1:  # of groups, torch counts the weights' gradient as if there were none
        assert flops("aten::convolution_backward", shapes) == backward
    assert flops("aten::convolution_backward", shapes) == 2 * count


@given(sizes, sizes, sizes)
def test_attention_is_counted_as_torch_counts_it(heads, queries, keys):
    query = torch.ones(1, heads, queries, 8)
    key = torch.ones(1, heads, keys, 8)
    count = calls(lambda: (query @ key.transpose(-1, -2)) @ key)
    shapes = [tuple(query.shape), tuple(key.shape), tuple(key.shape)]
    name = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert flops(name, shapes) == count
    assert flops(f"{name}_backward", [tuple(query.shape), *shapes]) == 2.5 * count


@pytest.mark.parametrize("shapes", [[], [()], [(), ()], [(3,), ()], [(2, 3), (4, 5)], [(0, 0)]])
@pytest.mark.parametrize("name", ["aten::mm", "Gemm", "Conv", "aten::addmm", "aten::relu", ""])
def test_what_fits_no_formula_is_unknown(name, shapes):
    assert np.isnan(flops(name, shapes)) or flops(name, shapes) == 0


def events(**columns):
    rows = len(columns["name"])
    table = {"kind": ["operator"] * rows, "lane": ["cpu 1"] * rows, **columns}
    about = About(title="o", origin="torch", peaks={"cpu": {"float32": 100.0, "bandwidth": 10.0}})
    return Recording(about, {"events": Table("events", table)})


def test_a_convolutions_operations_are_those_of_what_it_calls_and_count_once():
    recording = events(
        name=["aten::conv2d", "aten::convolution", "aten::mkldnn_convolution"],
        start=[0.0, 1.0, 2.0],
        duration=[10.0, 8.0, 5.0],
        parent=[-1, 0, 1],
        flops=[300.0, np.nan, np.nan],
        dtype=["float32"] * 3,
    )
    found = operators(recording)["columns"]
    assert found["flops"].tolist() == [300.0] * 3
    row = found["op"].index("aten::mkldnn_convolution")
    assert found["rate"][row] == 60.0
    assert found["share_of_peak"][row] == pytest.approx(0.6)
    assert found["bound"][row] == "compute"
    assert flops_in_all(recording) == 300.0
    assert summary(recording)["totals"]["flops"] == 300.0


def test_what_moves_much_and_computes_little_is_bound_by_memory():
    found = bounds(
        np.array([10.0, np.nan, np.nan]),
        np.array([40.0, 40.0, np.nan]),
        np.array([8.0, 8.0, 8.0]),
        ["float32", "float32", "float32"],
        {"float32": 100.0, "bandwidth": 10.0},
    )
    assert found[0] == ["memory", "memory", ""]
    assert found[1].tolist()[:2] == [0.5, 0.5]
    assert np.isnan(found[1][2])


def test_peaks_are_measured_without_a_trace():
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found = measure_peaks("cpu")["cpu"]
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert {"float32", "bfloat16", "bandwidth"} <= set(found)
    assert all(rate > 1e6 for rate in found.values())


def test_a_summary_counts_what_is_there():
    told = summary(steps_of([1.0, 3.0], [("aten::mm", "a", 0.5), ("aten::add", "", 0.25)]))
    assert told["totals"]["seconds"] == pytest.approx(4.0)
    assert told["totals"]["unmatched_seconds"] == pytest.approx(2.0)
    assert told["phases"] == {"forward": pytest.approx(3.0)}
    assert told["totals"]["peak_bytes"] is None
