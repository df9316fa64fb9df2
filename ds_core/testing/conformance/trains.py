"""Sessions with the component that is checked, on small jobs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import ds_core as ds
from ds_core.components import Component
from ds_core.errors import RefusedError
from ds_core.testing import jobs
from ds_core.testing.conformance.subject import Conformance, attach

MODELS = pytest.mark.parametrize("model", jobs.MODELS, ids=lambda model: model.__name__)


class Trains(Conformance):
    """Base of the checks that train with a component."""

    tolerance: ClassVar[float] = 0.0
    """How far losses of ten steps may be from the plain run's, relatively; infinite if at all."""

    def passes(self, *more: Component) -> dict[str, Any]:
        """Arguments of `attach` that use the component, and others beside it."""
        arguments: dict[str, Any] = {"backend": self.backend}
        for part in (self.make(), *more):
            if part.kind == "observer":
                arguments.setdefault("observers", []).append(part)
            else:
                arguments[part.kind] = part
        return arguments

    @contextmanager
    def session(
        self, model: nn.Module, optimizer: Any, *more: Component, **settings: Any
    ) -> Iterator[ds.Session]:
        """A session with the component, detached at the end; a refused model skips the check.

        Some can tell only once they have seen an input, so that a first step may refuse as well.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                session = attach(model, optimizer, config=settings, **self.passes(*more))
            except RefusedError as refusal:
                pytest.skip(f"refused: {refusal}")
            with session:
                try:
                    yield session
                except RefusedError as refusal:
                    pytest.skip(f"refused: {refusal}")

    def job(self, model: type[nn.Module] = jobs.Mlp) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A model with the same weights each time, and its optimizer."""
        torch.manual_seed(0)
        made = model()
        return made, jobs.sgd(made)

    def train(self, session: ds.Session, steps: int = 10, **options: Any) -> list[float]:
        """Train the session's model; returns the losses."""
        return jobs.train(
            session.model, session.optimizers[0], steps, device=session.device, **options
        )

    compile_tolerance: ClassVar[float] = 1e-5
    """How far losses under `torch.compile` may be from eager ones, relatively."""
