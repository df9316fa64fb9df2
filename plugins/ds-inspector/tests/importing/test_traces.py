"""Traces of torch.profiler."""

import gzip
import json

import numpy as np
import pytest
from ds_inspector.importing import limits
from ds_inspector.importing.opening import open_any
from ds_inspector.importing.trace import nesting
from ds_inspector.importing.trace.pieces import Pieces
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.errors import RefusedError


def told(path):
    """Events of a trace that take time, by json."""
    data = path.read_bytes()
    events = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)["traceEvents"]
    return [event for event in events if event["ph"] == "X" and event.get("cat") != "Trace"]


@pytest.mark.parametrize("which", ["trace", "plain_trace"])
def test_all_events_are_there(which, request):
    path = request.getfixturevalue(which)
    recording, expected = open_any(path), told(path)
    events = recording.events
    base = min(event["ts"] for event in expected)
    assert recording.about.origin == "trace"
    assert recording.about.problems == []
    rows = sorted(
        (event["name"][: limits.NAME], event["ts"] - base, event["dur"]) for event in expected
    )
    order = np.lexsort((events["duration"], events["start"], np.array(list(events["name"]))))
    assert [events["name"][row] for row in order.tolist()] == [name for name, _, _ in rows]
    for column, place in (("start", 1), ("duration", 2)):
        told_by_json = np.array([row[place] for row in rows]) / 1e6
        assert np.allclose(np.sort(events[column]), np.sort(told_by_json), rtol=0, atol=2e-9)


def test_parents_contain_their_children(trace):
    events = open_any(trace).events
    child = np.flatnonzero(events["parent"] >= 0)
    parent = events["parent"][child]
    assert len(child) > 0.9 * events.rows
    start, end = events["start"], events["start"] + events["duration"]
    assert (start[parent] <= start[child]).all()
    assert (end[parent] >= end[child] - 1e-12).all()
    assert (parent < child).all()


def in_phase(events, phase, kind="operator"):
    return np.flatnonzero(
        events.texts("phase").equal(phase) & events.texts("kind").equal(kind)
    ).tolist()


def test_phases_and_steps(trace, plain_trace):
    for path in (trace, plain_trace):
        recording = open_any(path)
        events = recording.events
        names = {
            phase: {events["name"][row] for row in in_phase(events, phase)}
            for phase in ("forward", "backward", "optimizer")
        }
        assert "aten::softmax" in names["forward"]
        assert "aten::_softmax_backward_data" in names["backward"]
        assert "aten::_softmax_backward_data" not in names["forward"]
        assert any("add_" in name or "_foreach" in name for name in names["optimizer"])
        assert recording.steps.rows == 3
        steps = [int((events["step"] == step).sum()) for step in range(3)]
        assert min(steps) > 100


def test_modules_of_forward_and_of_its_backward(trace):
    events = open_any(trace).events
    forward, backward = (
        {events["module"][row] for row in in_phase(events, phase) if events["name"][row] == name}
        for phase, name in (
            ("forward", "aten::softmax"),
            ("backward", "aten::_softmax_backward_data"),
        )
    )
    assert len(forward) == 1
    assert next(iter(forward)).split(".")[-1].startswith("Attention_")
    assert next(iter(forward)).split(".")[0].startswith("Small_")
    assert backward == forward


def test_sources_are_lines_of_the_user(trace):
    events = open_any(trace).events
    for phase in ("forward", "backward"):
        sources = {
            events["source"][row]
            for row in in_phase(events, phase)
            if "softmax" in events["name"][row] and "log" not in events["name"][row]
        }
        assert {source.partition(":")[0].rpartition("/")[2] for source in sources} == {
            "conftest.py"
        }


def test_shapes_and_dtypes(plain_trace):
    events = open_any(plain_trace).events
    found = {
        (shapes, dtype)
        for name, shapes, dtype in zip(
            events["name"], events["shapes"], events["dtype"], strict=True
        )
        if name == "aten::embedding"
    }
    assert found == {("50x32, 2x16", "float32")}


def test_memory(trace):
    recording = open_any(trace)
    raw = json.loads(trace.read_text())["traceEvents"]
    instants = [event for event in raw if event["name"] == "[memory]"]
    assert recording.usage.rows == len(instants)
    tensors = recording.tensors
    alive, lives = {}, []
    base = min(event["ts"] for event in told(trace))
    for event in sorted(instants, key=lambda event: event["ts"]):
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        if size > 0:
            alive[address] = len(lives)
            lives.append([event["ts"], np.inf, size])
        elif address in alive:
            lives[alive.pop(address)][1] = event["ts"]
    lives.sort()
    for column, expected in zip(("born", "died"), zip(*lives, strict=True), strict=False):
        found = np.sort(tensors[column])
        wanted = np.sort((np.array(expected) - base) / 1e6)
        assert np.allclose(found, wanted, rtol=0, atol=2e-9)
    assert sorted(tensors["bytes"].tolist()) == sorted(size for _, _, size in lives)
    # What a forward operator made and the backward used is kept, and only that.
    kept = tensors.texts("kind").equal("activation")
    assert set(tensors.texts("phase").take(kept)) == {"forward"}
    assert "aten::softmax" in {op.replace("_softmax", "softmax") for op in tensors["op"]}


def event(name="a", ts=0, dur=10, cat="cpu_op", tid=1, **args):
    return {
        **{"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": ts, "dur": dur},
        "args": args,
    }


@pytest.fixture
def opened(tmp_path):
    def opened(events, **about):
        path = tmp_path / "trace.json"
        path.write_text(json.dumps({**about, "traceEvents": events}))
        return open_any(path)

    return opened


def test_kernels_have_what_launched_them(opened):
    recording = opened(
        [
            event("nn.Module: Linear_3", 0, 100, "python_function"),
            event("aten::mm", 10, 50, **{"External id": 7}),
            event("cudaLaunchKernel", 20, 5, "cuda_runtime", correlation=3, **{"External id": 7}),
            {**event("gemm", 200, 90, "kernel", 7), "pid": 0, "args": {"External id": 7}},
            {**event("copy", 300, 9, "gpu_memcpy", 7), "pid": 0, "args": {"correlation": 3}},
        ]
    )
    events = recording.events
    assert list(events["kind"]) == ["module", "operator", "runtime", "kernel", "kernel"]
    assert list(events["lane"])[-2:] == ["cuda:0 stream 7"] * 2
    assert events["cause"].tolist() == [-1, -1, -1, 1, 2]
    assert set(events["module"]) == {"Linear_3"}
    assert set(events["phase"]) == {"forward"}


def test_arrows_tell_causes_where_numbers_do_not(opened):
    flow = {"id": 4, "cat": "async_cpu_to_gpu", "name": "launch"}
    recording = opened(
        [
            event("outer", 0, 50),
            event("launch", 10, 5),
            {**event("work", 70, 9, "kernel", 7), "pid": 0},
            {**flow, "ph": "f", "pid": 0, "tid": 7, "ts": 70},
            {**flow, "ph": "s", "pid": 1, "tid": 1, "ts": 10},
        ]
    )
    assert recording.events["name"][int(recording.events["cause"][2])] == "launch"


def test_memory_that_is_asked_for_again_was_given_back(opened):
    def instant(ts, size, address, device=-1):
        told = {"Bytes": size, "Total Allocated": 0, "Addr": address}
        told |= {"Device Type": int(device >= 0), "Device Id": device}
        return {
            **{"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": ts, "args": told},
            "s": "t",
        }

    tensors = opened(
        [
            event("aten::empty", 0, 10),
            event("later", 20, 5),
            instant(1, 64, 1),
            instant(2, 32, 1, device=0),
            instant(3, -8, 9),
            instant(21, 128, 1),
            instant(23, -128, 1),
        ]
    ).tensors
    rows = zip(
        (tensors["born"] * 1e6).round().tolist(),
        (tensors["died"] * 1e6).round().tolist(),
        tensors["bytes"].tolist(),
        tensors["op"],
        tensors["device"],
        strict=True,
    )
    assert sorted(rows) == [
        (1, 21, 64, "aten::empty", "cpu"),
        (2, np.inf, 32, "aten::empty", "cuda:0"),
        (21, 23, 128, "later", "cpu"),
    ]


def test_begin_and_end_make_events(opened):
    pairs = [("B", "a", 0), ("B", "b", 1), ("E", "b", 3), ("E", "a", 9), ("E", "a", 10)]
    recording = opened(
        [{"ph": ph, "name": name, "ts": ts, "pid": 1, "tid": 1} for ph, name, ts in pairs]
    )
    assert list(recording.events["name"]) == ["a", "b"]
    assert (recording.events["duration"] * 1e6).tolist() == pytest.approx([9, 2])
    assert recording.events["parent"].tolist() == [-1, 0]


def test_names_of_profiled_steps(opened):
    recording = opened(
        [
            event("ProfilerStep#4", 0, 10, "user_annotation"),
            event("a", 1, 2),
            event("ProfilerStep#5", 20, 10, "user_annotation"),
            event("b", 21, 2),
            event("c", 40, 2),
        ]
    )
    assert recording.steps.rows == 2
    assert recording.events["step"].tolist() == [0, 0, 1, 1, -1]


def test_missing_keys_and_times_without_sense(opened):
    recording = opened(
        [
            event("kept", 5, 1),
            {"ph": "X", "name": "bare", "ts": 6, "dur": 1},
            {"ph": "X", "ts": "7.5", "dur": "1"},
            event("negative", 1, -5),
            event("huge", 1e300, 1),
            event("late", 1, 1e18),
            event("no time", None),
            event("list", [1]),
            {**event("odd", 8), "name": {"a": 1}, "tid": None, "args": ["x"]},
            {**event("ids", 9), "args": {"External id": "x", "Sequence number": 2**63}},
            {**event("nothing", 9), "args": None},
            {**event("long", 9), "args": {"External id": 2**70, "Input Dims": "x"}},
            3,
            None,
            {"ph": "i"},
            {},
        ]
    )
    names = list(recording.events["name"])
    assert {"kept", "bare", "ids", "nothing", "long"} <= set(names)
    assert not {"negative", "huge", "late", "no time", "list"} & set(names)
    assert len(names) == 7
    assert "events have no time that makes sense" in recording.about.problems[0]


@pytest.mark.parametrize("depth", [100, 300, 900, 2000])
@pytest.mark.parametrize("ph", ["X", "B"])
@pytest.mark.parametrize("front", [0, 5000])  # of what is read by another way than the rest
def test_arguments_may_be_nested(tmp_path, depth, ph, front):
    arguments = {"Input Dims": "@", "Sequence number": 3}
    events = [event("b", 100 + number) for number in range(front)]
    events += [{**event("a", 1), "ph": ph, "args": arguments}, {**event("a", 9), "ph": "E"}]
    text = json.dumps({"traceEvents": events}).replace('"@"', "[" * depth + "]" * depth)
    (tmp_path / "x").write_text(text)
    if depth < 1000:
        assert list(open_any(tmp_path / "x").events["name"]).count("a") == 1
    else:
        with pytest.raises(RefusedError, match="no JSON"):
            open_any(tmp_path / "x")


def test_a_trace_of_ours_with_begin_and_end_in_pieces_of_their_own(opened):
    wide = {"args": {"module": "m", "step": 0}}
    events = [{**event("x", ts, 1), **wide} for ts in range(5000)]
    halves = [{**event("half", ts), **wide, "ph": "BE"[ts % 2]} for ts in range(10_000)]
    found = opened([*events, *halves, *events], exporter="ds-inspector").events
    assert found.rows == 15_000
    assert set(found["module"]) == {"m"}


def test_negative_times_count_from_the_first(opened):
    events = opened([event("b", -50, 5), event("a", -100, 5)]).events
    assert list(events["name"]) == ["a", "b"]
    assert (events["start"] * 1e6).tolist() == pytest.approx([0, 50])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.dictionaries(texts, values, min_size=1, max_size=3), max_size=12),
    before=st.dictionaries(texts, values, max_size=3),
    after=st.dictionaries(texts, values, max_size=3),
    indent=st.sampled_from([None, 0, 2, 4]),
    separators=st.sampled_from([None, (",", ":"), (", ", ": ")]),
    packed=st.booleans(),
    block=st.integers(1, 200),
    array=st.booleans(),
)
def test_pieces_are_the_whole_wherever_it_is_cut(
    tmp_path_factory, events, before, after, indent, separators, packed, block, array
):
    path = tmp_path_factory.getbasetemp() / "pieces.json"
    about = {**before, **after}
    about.pop("traceEvents", None)
    whole = events if array else {**before, "traceEvents": events, **after}
    if not array and (before.keys() | after.keys()) & {"traceEvents"}:
        return
    text = json.dumps(whole, indent=indent, separators=separators, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(text, 1) if packed else text)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_FIRST", "_BLOCK"):
            patch.setattr(f"ds_inspector.importing.trace.pieces.{name}", block)
        patch.setattr("ds_inspector.importing.trace.pieces._PIECE", 500)
        pieces = Pieces(path)
        found = [each for piece in pieces for each in piece]
    assert found == events
    assert array or pieces.about == about


intervals = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 15)), max_size=60
)


@settings(deadline=None)
@given(intervals, st.sampled_from([0, 1, 100]))
def test_parents_are_the_innermost_that_contain(rows, rounds):
    lane, start, duration = (
        (np.array(column, np.int64) for column in zip(*rows, strict=True))
        if (rows)
        else (np.zeros(0, np.int64),) * 3
    )
    order = nesting.order_of(lane, start, duration)
    lane, start, end = lane[order], start[order], (start + duration)[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nesting, "_ROUNDS", rounds)  # 0: by the stack alone
        found = nesting.parents(lane, start, end).tolist()
    expected = []
    for row in range(len(lane)):
        around = [
            other
            for other in range(row)
            if lane[other] == lane[row] and start[other] <= start[row] and end[other] >= end[row]
        ]
        expected.append(max(around, default=-1))
    assert found == expected


@pytest.mark.parametrize("cut", [1, 100, 0.5, 0.99])
def test_truncated_traces_are_refused(trace, plain_trace, tmp_path, cut):
    for path in (trace, plain_trace):
        data = path.read_bytes()
        part = tmp_path / "part"
        part.write_bytes(data[: cut if cut >= 1 else int(len(data) * cut)])
        with pytest.raises(RefusedError):
            open_any(part)


def test_bombs_stop_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "TRACE", 1_000_000)
    with gzip.open(tmp_path / "bomb.gz", "wb", 1) as file:
        file.write(b'{"traceEvents": [')
        for _ in range(64):
            file.write(b" " * 100_000)
    with pytest.raises(RefusedError, match="more than 1,000,000 bytes, unpacked"):
        open_any(tmp_path / "bomb.gz")


@pytest.mark.parametrize(
    "text",
    [
        b'{"traceEvents": [' + b" " * 30_000 + b'{"ph": "X", "ts": 1, "dur": 2}]}',
        b'{"about": "' + b"x" * 30_000 + b'", "traceEvents": [{"ph": "X", "ts": 1, "dur": 2}]}',
        b'[{"ph": "X", "ts": 1, "dur": 2, "args": {"a": [' + b"{},\n{}," * 4000 + b"1]}}]",
    ],
)
def test_what_cannot_be_cut_is_read_at_once_up_to_a_limit(tmp_path, monkeypatch, text):
    (tmp_path / "x").write_bytes(text)
    for name in ("_FIRST", "_BLOCK", "_HEAD", "_PIECE"):
        monkeypatch.setattr(f"ds_inspector.importing.trace.pieces.{name}", 1000)
    assert open_any(tmp_path / "x").events.rows == 1
    monkeypatch.setattr(limits, "WHOLE", 20_000)
    with pytest.raises(RefusedError, match="more than 20,000 bytes in one piece"):
        open_any(tmp_path / "x")


def test_other_limits(opened, monkeypatch):
    monkeypatch.setattr(limits, "EVENTS", 3)
    with pytest.raises(RefusedError, match="more than 3 events"):
        opened([event(ts=ts) for ts in range(4)])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no list of trace events"),
        ("[]", "no events"),
        ('{"traceEvents": []}', "no events"),
        ('{"traceEvents": {"a": 1}}', "no list of trace events"),
        ('{"traceEvents": [{"ph": "M"}]}', "no events"),
        ("{" * 5000, "no JSON"),
        ('{"traceEvents": [' + "[" * 100_000, "no JSON"),
        ('{"traceEvents": [{"ph": "X", "ts": NaN}]}', "no JSON"),
        ('{"traceEvents": [{"ph": "X", "name": "\\ud800", "ts": 1}]}', "no JSON"),
    ],
)
def test_other_json_is_refused(tmp_path, text, why):
    (tmp_path / "x").write_text(text)
    with pytest.raises(RefusedError, match=why):
        open_any(tmp_path / "x")
