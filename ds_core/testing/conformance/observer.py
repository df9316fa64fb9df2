"""The suite of observers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks
from ds_core.testing.conformance.sessions import SessionChecks
from ds_core.testing.conformance.trains import MODELS


class ObserverConformance(SessionChecks, MetadataChecks):
    """All checks of an observer: those who watch change nothing."""

    kind = "observer"
    tolerance: ClassVar[float] = 0.0

    @check(
        "observer.gradients",
        "a gradient must not differ because it is watched",
        "Return None from gradient hooks.",
    )
    @MODELS
    def test_gradients_are_identical(self, model: type[nn.Module]) -> None:
        found = []
        for watched in (False, True):
            made, optimizer = self.job(model)
            x, y = next(jobs.batches(1))
            if watched:
                with self.session(made, optimizer) as session:
                    inputs, labels = session.to_device(x, y)
                    torch.autograd.backward(F.cross_entropy(made(inputs), labels))
            else:
                torch.autograd.backward(F.cross_entropy(made(x), y))
            found.append([p.grad for p in made.parameters()])
        for plain, seen in zip(*found, strict=True):
            assert (plain is None and seen is None) or torch.equal(plain, seen)

    @check(
        "observer.random-state",
        "dropout and shuffling must not differ because someone watches",
        "Use a generator of your own.",
    )
    def test_random_state_is_left_alone(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            torch.manual_seed(3)
            before = torch.get_rng_state()
            self.train(session, 3)
            assert torch.equal(torch.get_rng_state(), before)

    @check(
        "observer.no-veto",
        "an observer does not decide which steps are taken",
        "Return None from ds_before_step; raise where training must stop.",
    )
    def test_no_step_is_skipped(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 5)
            assert session.steps == 5
            assert not session.skipped
