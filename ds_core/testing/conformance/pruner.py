"""The suite of pruners."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import nn

from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks
from ds_core.testing.conformance.sessions import SessionChecks
from ds_core.testing.conformance.trains import MODELS


class PrunerConformance(SessionChecks, MetadataChecks):
    """All checks of a pruner."""

    kind = "pruner"
    tolerance: ClassVar[float] = math.inf

    steps: ClassVar[int] = 40
    """Steps after which the pruner has removed something, told to it as `total_steps`."""

    @staticmethod
    def remaining(model: nn.Module) -> int:
        """Parameters that are there and not zero."""
        return sum(int(p.count_nonzero()) for p in model.parameters())

    @check(
        "pruner.removes",
        "a pruner must leave less than there was",
        "Set the suite's `options` or `steps` so that its schedule ends within them.",
    )
    @MODELS
    def test_something_is_removed(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        before = self.remaining(made)
        with self.session(made, optimizer, total_steps=self.steps) as session:
            self.train(session, self.steps)
            assert self.remaining(made) < before

    @check(
        "pruner.stays",
        "what was removed must be removed in the model that the user saves",
        "Zero or remove parameters themselves; a mask in the forward alone is lost by detach.",
    )
    def test_it_stays_removed_after_detach(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer, total_steps=self.steps) as session:
            self.train(session, self.steps)
            during = self.remaining(made)
        assert self.remaining(made) == during

    @check(
        "pruner.frozen",
        "frozen layers are the user's to keep",
        "Prune only parameters that require gradients.",
    )
    def test_frozen_layers_are_left_alone(self) -> None:
        made, optimizer = self.job(jobs.Tied)
        frozen = made.get_parameter("frozen.weight").clone()
        with self.session(made, optimizer, total_steps=self.steps) as session:
            self.train(session, self.steps)
        assert made.get_parameter("frozen.weight").equal(frozen)

    @check(
        "pruner.report",
        "users want to know what was removed where",
        "Return it from report().",
    )
    def test_the_report_says_what_was_removed(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer, total_steps=self.steps) as session:
            self.train(session, self.steps)
            details = next(p for p in session.report().components if p.kind == "pruner").details
        assert details
