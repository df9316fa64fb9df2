"""Checks of attaching and detaching: no trace is left, whatever happens in between."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.components import Observer
from ds_core.errors import HookError, RefusedError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.subject import attach
from ds_core.testing.conformance.trains import MODELS, Trains


class Saboteur(Observer):
    """Fails on purpose, so that a suite can see what is left behind."""

    name = "saboteur"

    def __init__(self, hook: str) -> None:
        super().__init__()
        self.hook = hook

    def _fail(self, hook: str) -> None:
        if hook == self.hook:
            raise ValueError("on purpose")

    @ds.hookimpl(trylast=True)
    def ds_prepare_model(self) -> None:
        """Fail while attaching, after everyone else has changed the model."""
        self._fail("ds_prepare_model")

    @ds.hookimpl(trylast=True)
    def ds_before_step(self) -> None:
        """Fail in the middle of a step."""
        self._fail("ds_before_step")

    @ds.hookimpl
    def ds_session_end(self) -> None:
        """Fail while detaching."""
        self._fail("ds_session_end")


class UndoingChecks(Trains):
    """A session leaves no trace but what training changed."""

    @check(
        "detach.restores",
        "a session must leave no trace but what training changed",
        "Make every change through session.changes, or undo it in a function given to "
        "session.changes.on_undo.",
    )
    @MODELS
    def test_detach_restores(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        jobs.train(made, optimizer, 1)
        before = jobs.snapshot(made, optimizer)
        with self.session(made, optimizer) as session:
            self.train(session, 3)
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "attach.changes-no-value",
        "attaching and detaching without a step must give back the same model",
        "Change values in or after a step, never in ds_prepare_model.",
    )
    @MODELS
    def test_attach_changes_no_value(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        before = jobs.values(made)
        with self.session(made, optimizer):
            pass
        assert jobs.same_values(made, before)

    @check(
        "attach.identity",
        "schedulers, loggers and checkpoints hold on to the model and its parameters",
        "Change modules in place; swap methods through session.changes.set_methods.",
    )
    @MODELS
    def test_identity_and_keys(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        parameters, keys = [id(p) for p in made.parameters()], list(made.state_dict())
        with self.session(made, optimizer) as session:
            assert session.model is made
            assert isinstance(made, model)
            assert [id(p) for p in made.parameters()] == parameters
            assert list(made.state_dict()) == keys

    @check(
        "attach.refusal",
        "where a session refuses, everything must be as before",
        "Record changes before or as they are made, so that they can be undone at any point.",
    )
    def test_a_failed_attach_changes_nothing(self) -> None:
        made, optimizer = self.job()
        before, values = jobs.snapshot(made, optimizer), jobs.values(made)
        with pytest.raises((HookError, RefusedError)):
            attach(made, optimizer, **self.passes(Saboteur("ds_prepare_model")))
        assert jobs.snapshot(made, optimizer) == before
        assert jobs.same_values(made, values)

    @check(
        "attach.again",
        "a model may have one session after another",
        "Leave nothing behind that a second attach would trip over.",
    )
    def test_attach_again(self) -> None:
        made, optimizer = self.job()
        for _ in range(2):
            with self.session(made, optimizer) as session:
                self.train(session, 2)

    @check(
        "attach.without-optimizer",
        "a model may be attached for inference",
        "Do not rely on session.optimizers having an entry.",
    )
    def test_without_an_optimizer(self) -> None:
        made, _ = self.job()
        before = jobs.snapshot(made)
        with self.session(made.eval(), None) as session, torch.no_grad():
            assert made(torch.randn(4, 8, device=session.device)).shape == (4, 4)
        made.train()
        assert jobs.snapshot(made) == before

    @check(
        "detach.after-exception",
        "an exception in the user's forward must not leave half a change behind",
        "Restore in `finally` what a forward changes for its duration.",
    )
    def test_detach_after_an_exception_in_forward(self) -> None:
        made, optimizer = self.job()
        before = jobs.snapshot(made, optimizer)
        with self.session(made, optimizer) as session:
            with pytest.raises(RuntimeError):
                made(torch.randn(4, 5, device=session.device))
            self.train(session, 2)
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "step.exception",
        "after an exception in the middle of a step, the model must be as before it",
        "Change nothing in ds_before_step; do it in ds_after_step.",
    )
    def test_an_exception_in_a_step(self) -> None:
        made, optimizer = self.job()
        before = jobs.snapshot(made, optimizer)
        saboteur = Saboteur("")
        with self.session(made, optimizer, saboteur) as session:
            self.train(session, 2)
            values, steps = jobs.values(made), session.steps
            state = copy.deepcopy(optimizer.state_dict()["state"])
            saboteur.hook = "ds_before_step"
            x, y = next(jobs.batches(1))
            made.eval()
            inputs, labels = session.to_device(x, y)
            torch.autograd.backward(F.cross_entropy(made(inputs), labels))
            with pytest.raises(HookError, match="saboteur"):
                optimizer.step()
            assert jobs.same_values(made, values)
            assert session.steps == steps
            after = optimizer.state_dict()["state"]
            assert all(
                torch.equal(value, after[key][name])
                for key, entry in state.items()
                for name, value in entry.items()
                if isinstance(value, torch.Tensor)
            )
            saboteur.hook = ""
            made.train()
            self.train(session, 1)
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "detach.failing-neighbour",
        "another component that fails while detaching must not keep this one attached",
        "Undo through session.changes, not in ds_session_end.",
    )
    def test_a_neighbour_that_fails_while_detaching(self) -> None:
        made, optimizer = self.job()
        before = jobs.snapshot(made, optimizer)
        with (
            pytest.raises(HookError, match="saboteur"),
            self.session(made, optimizer, Saboteur("ds_session_end")) as session,
        ):
            self.train(session, 1)
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "detach.collectable",
        "a detached session must not keep models in memory",
        "Hold no session, model or parameter in module globals or caches.",
    )
    def test_a_detached_session_is_collected(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 2)
        gone = weakref.ref(session)
        del session
        gc.collect()
        assert gone() is None, "something still holds the session"
