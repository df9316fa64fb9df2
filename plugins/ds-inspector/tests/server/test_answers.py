import threading

import orjson
import pytest
from ds_inspector.recording import Recording
from ds_inspector.server.answers import Answers
from ds_inspector.server.questions import flame_question
from made_up import example

from ds_core.errors import ConfigError, UnknownNameError


@pytest.fixture(scope="module")
def pair():
    return Answers([example(), example(slow=2)])


NAMES = ["session", "summary", "graph", "flame", "memory", "operators", "advice", "difference"]


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_json_without_numbers_that_json_lacks(pair, name):
    text = pair.json(name, {})
    assert b"NaN" not in text
    assert b"Infinity" not in text
    assert isinstance(orjson.loads(text), dict)


def test_what_outlives_the_recording_has_no_end(pair):
    lives = pair.value("memory")["lives"]
    assert None in lives["died"]
    assert all(died is None or died >= 0 for died in lives["died"])


def test_an_answer_is_computed_once(pair):
    assert pair.json("flame", {"by": "source"}) is pair.json("flame", {"by": "source"})


def test_threads_that_ask_the_same_wait_for_one_answer(monkeypatch):
    import ds_inspector.analysis.operators as analysis

    calls = []
    compute = analysis.operators
    asked = threading.Barrier(4)

    def slow(recording):
        calls.append(recording)
        return compute(recording)

    monkeypatch.setattr(analysis, "operators", slow)
    answers = Answers([example()])
    found = []

    def ask():
        asked.wait(10)
        found.append(answers.json("operators", {}))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 4
    assert len(calls) == 1


def traced():
    """A recording without a graph, as a trace is."""
    one = example()
    events = one.events.replaced(node=[-1] * one.events.rows)
    return Recording(one.about, {"events": events, "steps": one.steps})


@pytest.mark.parametrize(("make", "view"), [(example, "graph"), (traced, "flame")])
def test_what_is_asked_first_is_computed_before(monkeypatch, make, view):
    import ds_inspector.server.answers as module

    answers = Answers([make()])
    assert answers.value("session")["view"] == view
    answers.prepare()
    monkeypatch.setattr(module, "_ENDPOINTS", dict.fromkeys(module._ENDPOINTS))
    asked = flame_question(0)[1] if view == "flame" else {"r": "0"}
    assert answers.json(view, dict(reversed(asked.items())))
    assert answers.json("summary", {"r": "0"})


def test_a_question_that_failed_may_be_asked_again(pair):
    for _ in range(2):
        with pytest.raises(UnknownNameError, match="nothing"):
            pair.json("graph", {"group": "nothing"})


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("flame", {"by": "colour"}, "by is 'colour'"),
        ("flame", {"phase": "sideways"}, "phase is 'sideways'"),
        ("flame", {"step": "-1"}, "step is '-1'"),
        ("flame", {"step": "3"}, "step is '3'"),
        ("flame", {"inverted": "yes"}, "inverted is 'yes'"),
        ("summary", {"r": "2"}, "r is '2'"),
        ("summary", {"r": "²"}, "r is '²'"),
        ("summary", {"r": "9" * 6000}, "r is '999"),
        ("memory", {"from": "nan"}, "from is 'nan'"),
        ("memory", {"from": "1e999"}, "from is '1e999'"),
        ("graph", {"group": "x" * 5000}, "group is longer"),
        ("summary", {"colour": "red"}, "'colour'"),
    ],
)
def test_a_question_that_is_not_understood_is_refused_in_one_sentence(pair, name, query, says):
    with pytest.raises(ConfigError, match=says) as caught:
        pair.json(name, query)
    assert len(str(caught.value)) < 200


def test_there_is_nothing_to_compare_with():
    one = Answers([example()])
    with pytest.raises(ConfigError, match="no second recording"):
        one.json("flame", {"against": "1"})
    with pytest.raises(ConfigError, match="no second recording"):
        one.json("difference", {})


def test_without_a_recording_only_the_session_is_known():
    live = Answers([], title="train.py", live=True)
    session = {"title": "train.py", "recordings": [], "live": True, "view": "live"}
    assert live.value("session") == session
    with pytest.raises(UnknownNameError, match="No recording"):
        live.json("summary", {})


def test_the_difference_is_of_the_second_to_the_first(pair):
    gelu = [row for row in pair.value("difference")["operators"] if row["op"] == "aten::gelu"]
    assert gelu[0]["before"] == pytest.approx(2 * gelu[0]["after"])
    frames = pair.value("flame", by="operator", against="1")["frames"]
    assert min(frames["change"]) < 0
    back = pair.value("flame", r="1", by="operator", against="1")["frames"]
    assert max(back["change"]) == pytest.approx(-min(frames["change"]))


def test_answers_that_are_kept_have_a_limit(monkeypatch):
    import ds_inspector.server.answers as module

    monkeypatch.setattr(module, "_KEPT", 1)
    answers = Answers([example()])
    first = answers.json("operators", {})
    answers.json("memory", {})
    again = answers.json("operators", {})
    assert again == first
    assert again is not first
