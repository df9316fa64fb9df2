"""The suite of precision policies."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from ds_core.errors import RefusedError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks
from ds_core.testing.conformance.sessions import SessionChecks
from ds_core.testing.conformance.trains import MODELS


class PrecisionConformance(SessionChecks, MetadataChecks):
    """All checks of a precision policy."""

    kind = "precision"
    tolerance: ClassVar[float] = 5e-2
    compile_tolerance: ClassVar[float] = 5e-2

    @check(
        "precision.parameters",
        "parameters stay in the dtype that the user gave them",
        "Cast inside the forward, not the parameters themselves.",
    )
    @MODELS
    def test_parameters_keep_their_dtype(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        with self.session(made, optimizer) as session:
            self.train(session, 2)
            assert {p.dtype for p in made.parameters()} == {torch.float32}

    @check(
        "precision.gradients",
        "gradients must be true: neither scaled nor flushed to zero",
        "Offer a LossScale from ds_loss_scale where gradients may be float16.",
    )
    @pytest.mark.parametrize("power", [0, -8, -16])
    def test_gradients_are_true(self, power: int) -> None:
        made, optimizer = self.job(jobs.Conv)
        x, _ = next(jobs.batches(1))
        torch.autograd.backward(made(x).pow(2).mean() * 2.0**power)
        expected = {
            name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None
        }
        made.zero_grad()
        with self.session(made, optimizer) as session:
            torch.autograd.backward(made(session.to_device(x)).pow(2).mean() * 2.0**power)
            for name, parameter in made.named_parameters():
                assert parameter.grad is not None
                error = (parameter.grad.cpu() - expected[name]).norm() / expected[name].norm()
                assert error < 5e-2, f"the gradient of {name} is off by {error:.3g}"

    @check(
        "precision.outputs",
        "a loss is computed in float32",
        "Return 16-bit outputs as float32 unless the user asks for something else.",
    )
    def test_outputs_are_float32(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            assert made(session.to_device(next(jobs.batches(1))[0])).dtype == torch.float32

    @check(
        "precision.float64",
        "a float64 model must be refused or computed in float64",
        "Refuse in ds_session_start what the policy cannot handle.",
    )
    def test_float64(self) -> None:
        made = nn.Linear(8, 4).double()
        try:
            with self.session(made, jobs.sgd(made)) as session:
                assert (
                    made(torch.randn(2, 8, dtype=torch.float64).to(session.device)).isfinite().all()
                )
        except RefusedError:
            pass

    @check(
        "precision.own-autocast",
        "users may have a region of their own around the model",
        "Enter a region of your own, or abstain: never fail.",
    )
    def test_inside_the_users_autocast(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            x = session.to_device(next(jobs.batches(1))[0])
            with torch.autocast(session.device.type, torch.bfloat16):
                out = made(x)
            torch.autograd.backward(out.float().sum())
            assert not torch.is_autocast_enabled(session.device.type)

    @check(
        "precision.region-ends",
        "what the user computes outside the model must keep its dtype",
        "Leave autocast regions when the forward ends, also by an exception.",
    )
    def test_the_region_ends_with_the_forward(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            made(session.to_device(next(jobs.batches(1))[0]))
            with pytest.raises(RuntimeError):
                made(torch.randn(4, 5, device=session.device))
            assert not torch.is_autocast_enabled(session.device.type)
            a = torch.randn(4, 4, device=session.device)
            assert (a @ a).dtype == torch.float32
