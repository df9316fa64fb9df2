"""Checks of what is trained: as well as without the component, and as often as one likes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.trains import MODELS, Trains


class TrainingChecks(Trains):
    """Training with the component trains."""

    @check(
        "train.learns",
        "what makes training cheaper must leave it training",
        "Look at the gradients that arrive and at the steps that are skipped.",
    )
    @MODELS
    def test_losses_fall(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        with self.session(made, optimizer, total_steps=40) as session:
            losses = self.train(session, 40)
        assert all(map(math.isfinite, losses)), losses
        assert sum(losses[-5:]) < sum(losses[:5]), losses

    @check(
        "train.close-to-plain",
        "users must get what they trained for",
        "Set the suite's `tolerance` to what the component promises, and keep to it.",
    )
    @MODELS
    def test_losses_are_close_to_the_plain_run(self, model: type[nn.Module]) -> None:
        plain, optimizer = self.job(model)
        expected = jobs.train(plain, optimizer)
        made, optimizer = self.job(model)
        with self.session(made, optimizer) as session:
            losses = self.train(session)
        if self.tolerance == 0:
            assert losses == expected
        elif math.isfinite(self.tolerance):
            assert losses == pytest.approx(expected, rel=self.tolerance)

    @check(
        "train.deterministic",
        "a seed must fix the result",
        "Draw random numbers from torch's generators or one seeded by the options.",
    )
    def test_deterministic(self) -> None:
        runs = []
        for _ in range(2):
            made, optimizer = self.job()
            with self.session(made, optimizer) as session:
                runs.append(self.train(session))
        assert runs[0] == runs[1]

    @check(
        "train.gradients",
        "clipping, loggers and optimizers read gradients",
        "Return gradients of the parameter's shape, dtype and device.",
    )
    @MODELS
    def test_gradients_have_their_parameters_form(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        with self.session(made, optimizer) as session:
            x, y = session.to_device(*next(jobs.batches(1)))
            torch.autograd.backward(F.cross_entropy(made(x), y))
            for name, parameter in made.named_parameters():
                if parameter.requires_grad:
                    gradient = parameter.grad
                    assert gradient is not None, f"{name} got none"
                    assert gradient.shape == parameter.shape
                    assert gradient.dtype == parameter.dtype
                    assert gradient.device == parameter.device

    @check(
        "train.penalty",
        "a loss may use parameters beside outputs",
        "Change gradients where they pass the forward's boundary, not where they arrive.",
    )
    def test_a_weight_penalty_beside_the_output(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            x, _ = session.to_device(*next(jobs.batches(1)))
            weight = made.get_parameter("last.weight")
            loss = 0 * made(x).sum() + weight.pow(2).sum()
            torch.autograd.backward(loss)
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad, 2 * weight.detach(), rtol=1e-2, atol=1e-3)
