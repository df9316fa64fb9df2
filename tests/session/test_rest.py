"""A component that has nothing left to do is called no more, until there is news for it."""

import pytest
import torch

import ds_core as ds
from ds_core.components import Observer
from ds_core.hookspecs import hookimpl


class Sleeper(Observer):
    """Rests after a step."""

    name = "sleeper"

    def __init__(self):
        super().__init__()
        self.called = []

    @hookimpl
    def ds_around_forward(self, session, model):
        def around(call, args, kwargs):
            self.called.append("forward")
            return call(*args, **kwargs)

        return around

    @hookimpl
    def ds_before_step(self, session, optimizer):
        self.called.append("before")

    @hookimpl
    def ds_after_step(self, session, optimizer, skipped):
        self.called.append("after")
        session.rest(self)

    @hookimpl
    def ds_model_changed(self, session, model):
        self.called.append("changed")

    @hookimpl
    def ds_session_end(self, session):
        self.called.append("end")

    def heard(self):
        """What was called since last asked for."""
        found, self.called = self.called, []
        return found


@pytest.fixture
def training():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sleeper, other = Sleeper(), Other()
    session = ds.attach(model, optimizer, observers=[sleeper, other], config={})

    def step():
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with session:
        yield session, sleeper, other, step


class Other(Observer):
    """Never rests."""

    name = "other"

    def __init__(self):
        super().__init__()
        self.forwards = self.steps = 0

    @hookimpl
    def ds_around_forward(self, session, model):
        def around(call, args, kwargs):
            self.forwards += 1
            return call(*args, **kwargs)

        return around

    @hookimpl
    def ds_after_step(self, session, optimizer, skipped):
        self.steps += 1


EACH = ["forward", "before", "after"]


def test_it_is_not_called_while_it_rests_and_the_others_are(training):
    session, sleeper, other, step = training
    for _ in range(3):
        step()
    assert sleeper.heard() == EACH
    assert (other.forwards, other.steps, session.steps) == (3, 3, 3)


def test_a_changed_model_wakes_it(training):
    session, sleeper, _, step = training
    step()
    session.model_changed()
    step()
    step()
    assert sleeper.heard() == [*EACH, "changed", *EACH]


def test_a_loaded_state_wakes_it(training):
    session, sleeper, _, step = training
    state = session.state_dict()
    step()
    session.load_state_dict(state)
    step()
    assert sleeper.heard() == [*EACH, *EACH]


def test_it_hears_of_the_end(training):
    session, sleeper, _, step = training
    step()
    session.detach()
    assert sleeper.heard() == [*EACH, "end"]
    with session:
        step()
    assert sleeper.heard() == [*EACH, "end"]


def test_a_forward_without_functions_around_is_the_models_own_and_is_given_back():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ds.attach(model, optimizer, observers=[Sleeper()], config={}):
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
        assert type(model).forward is torch.nn.Linear.forward
    assert type(model) is torch.nn.Linear
