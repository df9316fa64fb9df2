import numpy as np
import pytest
from ds_inspector.analysis import memory as module
from ds_inspector.analysis.memory import memory
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from hypothesis import given
from hypothesis import strategies as st
from synthetic import lives


def live(recording, time, kind=None):
    tensors = recording.tensors
    there = (tensors.numbers("born") <= time) & (tensors.numbers("died") > time)
    if kind is not None:
        there &= tensors.texts("kind").equal(kind)
    return int(tensors.numbers("bytes")[there].sum())


@given(lives())
def test_bytes_are_those_of_what_is_alive(recording):
    found = memory(recording)
    for row, time in enumerate(found["time"].tolist()):
        for kind in found["kinds"]:
            assert found["bytes"][kind][row] == live(recording, time, kind)
    moments = np.unique(recording.tensors.numbers("born"))
    most = max((live(recording, time) for time in moments.tolist()), default=0)
    assert max((peak["bytes"] for peak in found["peaks"]), default=0) == most


@given(lives())
def test_peaks_tell_what_is_alive_then(recording):
    size = recording.tensors.numbers("bytes")
    for peak in memory(recording)["peaks"]:
        assert size[peak["tensors"]].sum() == peak["bytes"] == live(recording, peak["time"])
        assert (np.diff(size[peak["tensors"]]) <= 0).all()


@given(lives(), st.floats(0, 60), st.floats(0, 60))
def test_a_window_shows_what_is_alive_within(recording, one, other):
    start, end = sorted([one, other])
    found = memory(recording, start=start, end=end)
    assert ((found["time"] >= start) & (found["time"] <= end)).all()
    tensors = recording.tensors
    expected = (tensors.numbers("born") <= end) & (tensors.numbers("died") > start)
    assert found["lives"]["id"].tolist() == np.flatnonzero(expected).tolist()
    outlives = np.isinf(tensors.numbers("died")[expected])
    assert np.isnan(found["lives"]["died"]).tolist() == outlives.tolist()


def test_many_events_become_few_times_with_every_peak_that_matters():
    rng = np.random.default_rng(0)
    born = np.sort(rng.random(100_000))
    size = rng.integers(1, 100, 100_000)
    size[61_803] = 10**9
    table = Table(
        "tensors", {"born": born, "died": born + 1e-5, "bytes": size, "kind": ["x"] * 100_000}
    )
    recording = Recording(About(title="many", origin="torch"), {"tensors": table})
    found = memory(recording)
    assert len(found["time"]) <= 2000
    assert found["bytes"]["x"].max() == found["peaks"][0]["bytes"] == live(recording, born[61_803])
    assert len(found["lives"]["id"]) == module.MOST_LIVES
    assert 61_803 in found["lives"]["id"]


def saved(kind="activation", dtype="float32", phases=("forward", "backward"), **columns):
    count = max([len(values) for values in columns.values()], default=1)
    table = Table(
        "tensors",
        {
            "born": [0.0] * count,
            "died": [2.0] * count,
            "bytes": [1 << 20] * count,
            "kind": [kind] * count,
            "dtype": [dtype] * count,
            **columns,
        },
    )
    events = Table("events", {"start": [0.0] * len(phases), "phase": phases})
    recording = Recording(About(title="s", origin="torch"), {"tensors": table, "events": events})
    return {one["pass"]: one for one in memory(recording)["would_save"]}


def test_savings_are_of_what_a_pass_would_hold_in_fewer_bits():
    assert saved(op=["aten::gelu"]) == {
        "ds-dmp lean": {
            "pass": "ds-dmp lean",
            "bytes": 3 << 18,
            "how": "1 MiB kept for the backward would be held in 8 bits an element: three quarters "
            "of 1 MiB in float32.",
        }
    }
    assert saved(op=["aten::addmm"])["bf16"]["bytes"] == 1 << 19
    assert saved(dtype="bfloat16", op=["aten::addmm"])["ds-dmp lean"]["bytes"] == 1 << 19
    assert "bf16" not in saved(dtype="bfloat16", op=["aten::addmm"])
    assert saved(kind="optimizer")["ds-dmp lean+"]["bytes"] == 1 << 19
    assert saved(kind="parameter") == {}


def test_blocks_that_repeat_could_be_computed_again():
    blocks = ["layer.0.a", "layer.0.b", "layer.1.a", "layer.1.b", "head"]
    found = saved(module=blocks)["torch.utils.checkpoint"]
    assert found["bytes"] == 1 << 20  # of two blocks of two, each keeps one and one block is alive
    assert "torch.utils.checkpoint" not in saved(module=["layer.0.a", "head"])


def test_what_inference_keeps_is_told():
    assert saved(phases=("forward",))["torch.inference_mode"]["bytes"] == 1 << 20


def test_nothing_recorded_is_nothing_shown():
    found = memory(Recording(About(title="empty", origin="onnx")))
    assert found["peaks"] == []
    assert found["would_save"] == []
    assert len(found["time"]) == 0


def test_what_the_allocator_said_is_beside_it():
    table = Table("usage", {"time": np.arange(5000.0), "bytes": np.arange(5000.0)})
    recording = Recording(About(title="u", origin="torch"), {"usage": table})
    found = memory(recording, start=0.0, end=5000.0)["usage"]
    assert len(found["time"]) <= 2000
    assert found["bytes"].max() == pytest.approx(4999.0)
