"""Profiles for speedscope."""

import json

import pytest
from ds_inspector.exporting import export
from hypothesis import given, settings
from made import recordings


def written(recording, folder):
    path = folder / "profile.speedscope.json"
    export(recording, "speedscope", path, force=True)
    return json.loads(path.read_text())


@settings(deadline=None, max_examples=80)
@given(recordings)
def test_profiles_are_balanced_and_in_order(tmp_path_factory, recording):
    told = written(recording, tmp_path_factory.getbasetemp())
    assert told["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = told["shared"]["frames"]
    opened = 0
    for profile in told["profiles"]:
        assert (profile["type"], profile["unit"]) == ("evented", "microseconds")
        stack, last = [], profile["startValue"]
        for event in profile["events"]:
            assert last <= event["at"] <= profile["endValue"]
            last = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
                opened += 1
                assert 0 <= event["frame"] < len(frames)
            else:
                assert stack.pop() == event["frame"]
        assert stack == []
    assert opened == recording.events.rows
    assert [profile["name"] for profile in told["profiles"]] == list(
        dict.fromkeys(recording.events["lane"])
    )


def test_depth_is_that_of_nesting(full, tmp_path):
    told = written(full, tmp_path)
    names = [frame["name"] for frame in told["shared"]["frames"]]
    first = told["profiles"][0]["events"]
    assert [(event["type"], names[event["frame"]]) for event in first] == [
        ("O", "step"),
        ("O", "aten::mm"),
        ("O", "cudaLaunchKernel"),
        ("C", "cudaLaunchKernel"),
        ("C", "aten::mm"),
        ("C", "step"),
    ]
    assert [event["at"] for event in first] == pytest.approx([0, 1000, 1200, 1300, 2000, 3000])
    frame = next(frame for frame in told["shared"]["frames"] if frame["name"] == "aten::mm")
    assert frame == {"name": "aten::mm", "file": "model.py", "line": 3}
