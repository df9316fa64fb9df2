"""Whole steps decide where the costs of single layers mislead."""

import pytest
import torch
from ds_dmp import comparison, cost, trial
from ds_dmp.trial import ADVISED, ALL, NONE, ROUNDS, Trial, judge
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training import Healthy, attach, details, dtypes, train


class Clock:
    """A device on which each way to take a step lasts as long as it is told."""

    def __init__(self, monkeypatch, seconds, first=0.0):
        self.now, self.seconds, self.first, self.begun = 0.0, seconds, first, set()
        monkeypatch.setattr(trial.time, "perf_counter", lambda: self.now)

    def step(self, made, shapes=(3,)):
        way = made.way
        made.forward(shapes)
        self.now += self.seconds[way] + (0.0 if way in self.begun else self.first)
        self.begun.add(way)
        made.step()
        self.now += 100.0  # whatever the loop does between steps


def trial_of(*ways, agree=lambda here: here):
    return Trial(ways, lambda: None, agree)


def run(made, clock, shapes=lambda step: (3,)):
    for step in range(1000):
        if made.over:
            return judge(made.ways, made.seconds())
        clock.step(made, shapes(step))
    raise AssertionError("it never ends")


def test_the_fastest_way_wins_and_first_steps_do_not_count(monkeypatch):
    clock = Clock(monkeypatch, {ADVISED: 1.0, NONE: 0.8, ALL: 0.7}, first=50.0)
    verdict = run(trial_of(ADVISED, NONE, ALL), clock)
    assert verdict.way == ALL
    assert verdict.ratio == pytest.approx(0.7)


def test_a_small_difference_changes_nothing(monkeypatch):
    clock = Clock(monkeypatch, {ADVISED: 1.0, NONE: 0.98})
    assert run(trial_of(ADVISED, NONE), clock).way == ADVISED


def test_batches_of_other_shapes_do_not_count(monkeypatch):
    clock = Clock(monkeypatch, {ADVISED: 1.0, NONE: 0.5})
    made = trial_of(ADVISED, NONE)
    assert run(made, clock, lambda step: (3 + step % 2,)).way == NONE
    made = trial_of(ADVISED, NONE)
    assert run(made, clock, lambda step: (step,)).way == ADVISED, "nothing could be compared"


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=3))
def test_a_verdict_is_never_slower_than_what_was_advised(seconds):
    ways = [ADVISED, NONE, ALL][: len(seconds)]
    verdict = judge(ways, seconds)
    assert seconds[ways.index(verdict.way)] <= seconds[0]


@pytest.fixture
def gates(monkeypatch):
    """Costs of single layers that gate the first layer alone, whatever they are."""

    def only_first(costs):
        return {"first": "takes 2x as long in 16 bit"}

    monkeypatch.setattr(cost, "gate", only_first)


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("DS_CACHE_DIR", str(tmp_path / "cache"))


def say(monkeypatch, seconds):
    monkeypatch.setattr(Trial, "seconds", lambda self: [seconds[way] for way in self.ways])


def test_where_whole_steps_lose_nothing_is_in_16_bit_and_the_policy_rests(
    emulated, gates, monkeypatch
):
    say(monkeypatch, {ADVISED: 1.0, NONE: 0.5, ALL: 1.0})
    model = Healthy()
    with attach(model, emulated, cost_gate=True, every=100) as session:
        train(session, comparison.BEGIN)
        assert "bf16" in dtypes(session).values()
        train(session, 3 * ROUNDS + 2)
        assert set(dtypes(session).values()) == {"fp32"}
        assert "2.00x as long" in details(session)["layers"][0]["why"]
        products = emulated.products.total()
        share = details(session)["16-bit share of multiply-adds"]
        train(session, 20)
        assert emulated.products.total() == products
        assert type(model).forward is Healthy.forward
        assert details(session)["16-bit share of multiply-adds"] < share


def test_a_layer_that_costs_more_by_itself_may_help_the_whole(emulated, gates, monkeypatch):
    say(monkeypatch, {ADVISED: 1.0, NONE: 1.0, ALL: 0.9})
    with attach(Healthy(), emulated, cost_gate=True, every=100) as session:
        train(session, comparison.BEGIN)
        assert dtypes(session)["first"] == "fp32"
        train(session, 3 * ROUNDS + 2)
        assert dtypes(session)["first"] == "bf16"


def test_a_later_run_remembers(emulated, gates, monkeypatch):
    say(monkeypatch, {ADVISED: 1.0, NONE: 0.5, ALL: 1.0})
    with attach(Healthy(), emulated, cost_gate=True, every=100) as session:
        train(session, comparison.BEGIN + 3 * ROUNDS + 2)
    say(monkeypatch, {ADVISED: 0.5, NONE: 1.0, ALL: 1.0})
    with attach(Healthy(), emulated, cost_gate=True, every=100) as session:
        train(session, comparison.BEGIN + 1)
        assert set(dtypes(session).values()) == {"fp32"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers_are_layers(emulated, kind, batch_first):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = kind(16, 16, batch_first=batch_first)
            self.head = nn.Linear(16, 4)

        def forward(self, x):
            read = self.body(x)[0]
            return self.head(read[:, -1] if batch_first else read[-1])

    shape = (8, 5, 16) if batch_first else (5, 8, 16)
    x, y = torch.randn(*shape), torch.randint(4, (8,))
    with attach(Reader(), emulated) as session:
        optimizer = session.optimizers[0]
        for _ in range(9):
            nn.functional.cross_entropy(session.model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert dtypes(session) == {"body": "bf16", "head": "bf16"}
        body = details(session)["layers"][0]
        assert 0 < body["error"] < 0.05
