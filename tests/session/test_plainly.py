"""Components may look beneath what others have set on the user's modules."""

import pytest
import torch
from torch import nn

import ds_core as ds
from ds_core.changes import Changes, plainly
from ds_core.components import Observer
from ds_core.hookspecs import hookimpl


class Doubling(Observer):
    """Doubles what a model gives out."""

    name = "doubling"

    @hookimpl
    def ds_around_forward(self, session, model):
        return lambda call, args, kwargs: 2 * call(*args, **kwargs)


def test_the_models_own_forward_is_there_within_and_the_sessions_after():
    model = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    expected = model(x)
    with ds.attach(model, observers=[Doubling(), Doubling()], config={}) as session:
        with session.plainly():
            assert type(model) is nn.Linear
            assert torch.equal(model(x), expected)
        assert torch.equal(model(x), 4 * expected)
    assert type(model) is nn.Linear


def test_it_is_put_back_after_an_exception():
    model = nn.Linear(3, 2)
    with ds.attach(model, observers=[Doubling()], config={}) as session:
        with pytest.raises(ValueError, match="mine"), session.plainly():
            raise ValueError("mine")
        assert type(model) is not nn.Linear


def test_a_class_that_is_changed_within_stays_under_the_methods():
    class Loud(nn.Linear):
        def forward(self, x):
            return 10 * super().forward(x)

    model, changes = nn.Linear(3, 2), Changes()
    x = torch.randn(4, 3)
    expected = model(x)
    changes.set_methods(model, extra_repr=lambda self: "first")
    changes.set_methods(model, name=lambda self: "second")
    with plainly([model]):
        model.__class__ = Loud
    assert isinstance(model, Loud)
    assert torch.allclose(model(x), 10 * expected)
    assert (model.extra_repr(), model.name()) == ("first", "second")
    changes.undo()
    assert type(model) is Loud
