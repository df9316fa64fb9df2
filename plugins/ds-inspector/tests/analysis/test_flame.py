from collections import Counter

import numpy as np
import pytest
from ds_inspector.analysis import flame as module
from ds_inspector.analysis.flame import flame
from hypothesis import given
from hypothesis import strategies as st
from synthetic import recordings, steps_of

from ds_core.errors import RefusedError

WAYS = st.sampled_from(["module", "operator", "source"])


def self_seconds(recording):
    """Of each event that counts, worked out one by one."""
    events = recording.events
    duration, parent = events.numbers("duration"), events.numbers("parent")
    kernel = events.texts("kind").equal("kernel")
    own = duration.copy()
    for row, above in enumerate(parent.tolist()):
        if above >= 0:
            own[above] -= duration[row]
    return np.where(kernel if kernel.any() else ~kernel, own, 0.0)


def idle_seconds(recording):
    """Of each step: seconds without an event that counts, counted second by second."""
    events, steps = recording.events, recording.steps
    kernel = events.texts("kind").equal("kernel")
    counted = kernel if kernel.any() else ~kernel
    start, duration = events.numbers("start")[counted], events.numbers("duration")[counted]
    spans = list(zip(steps.numbers("start"), steps.numbers("end"), strict=True))
    if not spans and events.rows:
        ends = events.numbers("start") + events.numbers("duration")
        spans = [(events.numbers("start").min(), ends.max())]
    return [
        sum(
            not ((start <= second) & (second < start + duration)).any()
            for second in np.arange(begin, end)
        )
        for begin, end in spans
    ]


def by_path(found, column="value"):
    """Values of a flame graph by the path of names."""
    names, frames = found["names"], found["frames"]
    paths, stack = {}, []
    for row, depth in enumerate(np.asarray(frames["depth"]).tolist()):
        stack = [*stack[:depth], names[frames["name"][row]]]
        assert len(stack) == depth + 1
        assert tuple(stack) not in paths
        paths[tuple(stack)] = float(frames[column][row])
    return paths


@given(recordings(), WAYS, st.booleans())
def test_all_time_is_there_once(recording, by, inverted):
    found = flame(recording, by=by, inverted=inverted)
    frames = found["frames"]
    expected = self_seconds(recording).sum() + sum(idle_seconds(recording))
    assert found["total"] == pytest.approx(expected)
    assert np.sum(frames["self"]) + found["omitted"] == pytest.approx(found["total"])
    values, selves = by_path(found), by_path(found, "self")
    for path, value in values.items():
        children = sum(other for longer, other in values.items() if longer[:-1] == path)
        assert value == pytest.approx(children + selves[path])


@given(recordings(), WAYS)
def test_inverted_paths_are_the_paths_read_from_their_ends(recording, by):
    forward = by_path(flame(recording, by=by), "self")
    backward = by_path(flame(recording, by=by, inverted=True), "self")
    expected = {path[::-1]: seconds for path, seconds in forward.items() if seconds > 0}
    assert {path: seconds for path, seconds in backward.items() if seconds > 0} == (
        pytest.approx(expected)
    )


@given(recordings(), WAYS)
def test_children_lie_within_their_parents(recording, by):
    found = flame(recording, by=by)
    frames = found["frames"]
    stack = [(0.0, found["total"])]
    for depth, start, value in zip(
        frames["depth"].tolist(), frames["start"].tolist(), frames["value"].tolist(), strict=True
    ):
        begin, end = stack[depth]
        assert begin <= start
        assert start + value <= end + 1e-9
        # What comes next beside it begins where it ends.
        stack[depth] = (start + value, end)
        stack = [*stack[: depth + 1], (start, start + value)]


@given(recordings(), WAYS, st.booleans())
def test_phases_and_steps_add_up(recording, by, inverted):
    whole = flame(recording, by=by, inverted=inverted)["total"]
    phases = ("forward", "backward", "optimizer", "data", "other")
    parts = sum(flame(recording, by=by, phase=phase)["total"] for phase in phases)
    assert parts + sum(idle_seconds(recording)) == pytest.approx(whole)
    steps = [flame(recording, by=by, step=step) for step in range(recording.steps.rows)]
    known = recording.events.numbers("step")
    if steps and (known >= 0).all():
        assert sum(step["total"] for step in steps) == pytest.approx(whole)


@given(recordings(), WAYS, st.booleans())
def test_a_recording_does_not_differ_from_itself(recording, by, inverted):
    found = flame(recording, by=by, inverted=inverted, against=recording)
    assert np.abs(found["frames"]["change"]).max(initial=0.0) < 1e-9


@given(recordings(), recordings(), WAYS, st.booleans())
def test_changes_are_differences_for_as_many_steps(recording, other, by, inverted):
    found = flame(recording, by=by, inverted=inverted, against=other)
    before = by_path(flame(other, by=by, inverted=inverted))
    scale = max(recording.steps.rows, 1) / max(other.steps.rows, 1)
    values, changes = by_path(found), by_path(found, "change")
    for path, change in changes.items():
        assert change == pytest.approx(values[path] - scale * before.get(path, 0.0))


@given(recordings(kernels=False))
def test_operators_are_nested_as_they_called_each_other(recording):
    events, own = recording.events, self_seconds(recording)
    expected = Counter()
    for row in range(events.rows):
        path, above = [], row
        while above >= 0:
            if events.texts("kind")[above] not in ("module", "python"):
                path.insert(0, events.texts("name")[above])
            above = int(events.numbers("parent")[above])
        expected[tuple(path) or ("(unmatched)",)] += own[row]
    expected["(unmatched)",] += sum(idle_seconds(recording))
    found = by_path(flame(recording, by="operator"), "self")
    for path in {*found, *expected}:
        assert found.get(path, 0.0) == pytest.approx(expected[path])


@given(recordings())
def test_a_module_has_the_time_of_its_events_and_no_other(recording):
    events, own = recording.events, self_seconds(recording)
    cause, kernel = events.numbers("cause"), events.texts("kind").equal("kernel")
    expected = Counter()
    for row in range(events.rows):
        said = events.texts("module")[row]
        if kernel[row] and cause[row] >= 0 and not said:
            said = events.texts("module")[int(cause[row])]
        if said:
            expected[said] += own[row]
    found = flame(recording, by="module")
    frames, names = found["frames"], found["names"]
    within = Counter()
    for name in expected:
        for other, seconds in expected.items():
            within[name] += seconds if f"{other}.".startswith(f"{name}.") else 0.0
    for row in range(len(frames["name"])):
        name, op = names[frames["module"][row]], names[frames["op"][row]]
        if name in within and not op and names[frames["name"][row]] == name.split(".")[-1]:
            assert frames["value"][row] == pytest.approx(within[name])


def test_the_narrowest_are_left_out_and_counted(monkeypatch):
    operators = [(f"op{number}", "m", (number + 1) / 5050) for number in range(100)]
    recording = steps_of([1.0], operators)
    monkeypatch.setattr(module, "MOST", 20)
    found = flame(recording)
    assert 10 < len(found["frames"]["name"]) <= 20
    assert found["omitted"] > 0
    assert np.sum(found["frames"]["self"]) + found["omitted"] == pytest.approx(1.0)
    assert "op99" in found["names"]
    assert "op0" not in found["names"]


def test_frames_say_what_links_them():
    found = flame(steps_of([1.0], [("aten::mm", "a.b", 0.5)]))
    names, frames = found["names"], found["frames"]
    rows = [
        [names[frames[column][row]] for column in ("name", "module", "op")]
        for row in range(len(frames["name"]))
    ]
    assert ["a", "a", ""] in rows
    assert ["b", "a.b", ""] in rows
    assert ["aten::mm", "a.b", "aten::mm"] in rows
    assert ["(unmatched)", "", ""] in rows


def test_what_is_not_there_is_refused():
    recording = steps_of([1.0], [])
    with pytest.raises(RefusedError, match="by colour"):
        flame(recording, by="colour")
    with pytest.raises(RefusedError, match="step 4"):
        flame(recording, step=4)
