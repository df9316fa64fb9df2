"""Each finding on a model that has what it is about, and on one that has not, really recorded."""

import functools

import advised_nets as nets
import numpy as np
import pytest
import torch
from ds_inspector import inspect
from ds_inspector.analysis.advice import advice
from ds_inspector.analysis.difference import difference
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from synthetic import steps_of
from torch import nn


def recorded(model, inputs, *, inference=True, peaks=None, collectors=("time",), **options):
    with torch.inference_mode(inference):
        recording = inspect(model, inputs, steps=5, collectors=collectors, **options)
    recording.about.peaks = {"cpu": peaks or {}}
    return recording


def found(recording):
    return {finding["id"]: finding for finding in advice(recording)["findings"]}


def function(call, *modules):
    return nets.Function(call, *modules).eval()


SLOW = {"float32": 1e11, "bfloat16": 4e11, "bandwidth": 1e10}
wide = functools.partial(nn.Linear, 512, 512)
rows, images = torch.randn(256, 512), torch.randn(2, 32, 64, 64)
lower = functools.partial(torch.autocast, "cpu", torch.bfloat16)

PAIRS = {
    "layout-copies": (
        lambda: recorded(nets.channel_norms(), images),
        lambda: recorded(nets.channel_norms(False), images.to(memory_format=torch.channels_last)),
    ),
    "small-kernels": (
        lambda: recorded(function(nets.small_steps), torch.ones(8)),
        lambda: recorded(wide(), rows),
    ),
    "loop-of-small-calls": (
        lambda: recorded(function(nets.one_by_one), torch.ones(200, 8)),
        lambda: recorded(function(lambda x: x * 2), torch.ones(200, 8)),
    ),
    "host-synchronisation": (
        lambda: recorded(function(nets.read_back), rows),
        lambda: recorded(function(lambda x: x * x[:20, 0].sum()), rows),
    ),
    "unfused-elementwise": (
        lambda: recorded(function(nets.chain), images),
        lambda: recorded(function(nn.functional.gelu), images),
    ),
    "batch-norm": (
        lambda: recorded(nets.normalised(), torch.randn(4, 16, 64, 64)),
        lambda: recorded(nets.folded(), torch.randn(4, 16, 64, 64)),
    ),
    "attention": (
        lambda: recorded(function(nets.spelled_out), torch.randn(4, 256, 64)),
        lambda: recorded(function(nets.one_call), torch.randn(4, 256, 64)),
    ),
    "slow-dtype": (
        lambda: recorded(wide(), rows, peaks=SLOW),
        lambda: recorded(wide().bfloat16(), rows.bfloat16(), peaks=SLOW),
    ),
    "dtype-casts": (
        lambda: cast_each_time(nn.Linear(2048, 2048), torch.randn(2, 2048)),
        lambda: recorded(nn.Linear(2048, 2048).bfloat16(), torch.randn(2, 2048).bfloat16()),
    ),
    "allocation": (
        lambda: recorded(function(nets.filling), images),
        lambda: recorded(function(lambda x: x + x), images),
    ),
    "grad-mode": (
        lambda: recorded(
            nets.deep(), rows[:, :16], inference=False, collectors=("lifetimes", "time")
        ),
        lambda: recorded(nets.deep(), rows[:, :16], collectors=("lifetimes", "time")),
    ),
    "unfused-optimizer": (
        lambda: trained(fused=False, foreach=False),
        lambda: trained(fused=True),
    ),
}


def cast_each_time(model, inputs):
    with lower():
        return recorded(model, inputs)


def trained(**options):
    model = nets.deep()
    return recorded(
        model,
        rows[:, :16],
        inference=False,
        backward=True,
        optimizer=torch.optim.AdamW(model.parameters(), **options),
    )


@pytest.mark.parametrize("kind", PAIRS)
def test_it_is_found_where_it_is_and_only_there(kind):
    bad, good = (record() for record in PAIRS[kind])
    finding = found(bad)[kind]
    assert finding["evidence"].endswith(".")
    assert finding["remedy"].endswith(".")
    assert finding["measured"] is None
    assert finding["estimate"] is None or 0 < finding["estimate"] <= 1
    if kind != "grad-mode":
        assert finding["op"] in bad.events.texts("name").values
    assert kind not in found(good)
    (mended,) = (one for one in advice(good, before=bad)["findings"] if one["id"] == kind)
    ratio = difference(bad, good)["steps"]["ratio"]
    assert mended["measured"] == pytest.approx(1 - ratio)
    assert mended["evidence"] == finding["evidence"]


def test_a_machine_without_fast_16_bits_is_not_advised_to_use_them():
    recording = recorded(wide(), rows, peaks={"float32": 1e11, "bfloat16": 1.1e11})
    assert "slow-dtype" not in found(recording)


def test_a_large_product_alone_has_nothing_to_mend():
    assert found(recorded(wide(), rows, peaks={"float32": 1e11})) == {}


def test_an_empty_recording_has_nothing_to_mend():
    assert found(Recording(About(title="empty", origin="onnx"))) == {}


def data(share):
    recording = steps_of([1.0] * 3, [("load", "", share), ("aten::mm", "m", 1 - share)])
    phase = [{"load": "data"}.get(name, "forward") for name in recording.events.texts("name")]
    events = recording.events.replaced(phase=phase)
    return Recording(recording.about, {**recording.tables, "events": events})


def test_waiting_for_data():
    assert found(data(0.3))["data-wait"]["estimate"] == pytest.approx(0.3)
    assert "data-wait" not in found(data(0.01))


def convolutions(odd, even):
    """Two convolutions of equal work, by the seconds that they take."""
    table = {
        "name": ["aten::conv2d"] * 2,
        "kind": ["operator"] * 2,
        "start": [0.0, odd],
        "duration": [odd, even],
        "shapes": ["1x20x8x8, 20x20x3x3, 20", "1x24x8x8, 24x24x3x3, 24"],
        "flops": [1e6, 1e6],
    }
    return Recording(About(title="c", origin="torch"), {"events": Table("events", table)})


def test_channels_that_are_slower_for_their_number():
    # Padded, the odd one computes 1.44 times as much.
    finding = found(convolutions(3.0, 1.0))["channel-multiples"]
    assert finding["estimate"] == pytest.approx((3.0 - 1.44) / 4.0)
    assert "channel-multiples" not in found(convolutions(1.0, 1.0))


def projections(names, seconds):
    products = [(f"attention.{name}", seconds, "16x64, 64x64") for name in names]
    products += [("mlp", 0.4, "16x64, 64x256")]
    starts = np.cumsum([0.0] + [length for _, length, _ in products])
    table = {
        "name": ["aten::mm"] * len(products),
        "kind": ["operator"] * len(products),
        "start": starts[:-1],
        "duration": [length for _, length, _ in products],
        "module": [module for module, _, _ in products],
        "shapes": [shapes for _, _, shapes in products],
    }
    return Recording(About(title="p", origin="torch"), {"events": Table("events", table)})


@pytest.mark.parametrize("names", [("query", "key", "value"), ("q_proj", "k_proj", "v_proj")])
def test_projections_that_are_slower_apart(names):
    finding = found(projections(names, 0.2))["separate-projections"]
    assert finding["estimate"] == pytest.approx((0.6 - 0.3) / 1.0)
    assert "separate-projections" not in found(projections(names, 0.1))
    assert "separate-projections" not in found(projections(("one", "two", "three"), 0.2))
