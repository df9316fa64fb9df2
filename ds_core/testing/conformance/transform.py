"""The suite of transforms."""

from __future__ import annotations

import copy
import io
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import ds_core as ds
from ds_core.components import Transform
from ds_core.errors import DsError, RefusedError, SessionError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks


class ConvNorm(nn.Module):
    """A convolution with a batch norm, as most image models are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        x = x.reshape(x.shape[0], 2, 2, 2)
        x = torch.relu(self.norm(self.conv(x)))
        scores: Tensor = self.head(self.drop(x.mean((2, 3))))
        return scores


SHAPES: tuple[type[nn.Module], ...] = (*jobs.MODELS, ConvNorm)
MODELS = pytest.mark.parametrize("model", SHAPES, ids=lambda model: model.__name__)


class TransformConformance(MetadataChecks):
    """All checks of a transform: model in, equivalent model out."""

    kind = "transform"

    tolerance: ClassVar[float] = 1e-4
    """How far outputs may be from the original's, relative to its largest."""

    def trained(self, model: type[nn.Module]) -> nn.Module:
        """A model after a few steps, in evaluation mode."""
        torch.manual_seed(0)
        made = model()
        jobs.train(made, jobs.sgd(made), 3)
        return made.eval()

    def inputs(self, size: int = 16) -> tuple[Tensor]:
        """Example inputs."""
        return (next(jobs.batches(1, size))[0],)

    def transform(self) -> Transform:
        """A new component."""
        part = self.make()
        assert isinstance(part, Transform)
        return part

    def apply(self, model: nn.Module) -> nn.Module:
        """The transformed model; one that is refused skips the check."""
        try:
            return ds.transform(model, self.transform(), self.inputs())
        except RefusedError as refusal:
            pytest.skip(f"refused: {refusal}")

    def assert_equal(self, one: Tensor, two: Tensor) -> None:
        """Outputs agree within the suite's tolerance."""
        error = (one.float() - two.float()).abs().max() / two.float().abs().max().clamp_min(1e-6)
        assert error <= self.tolerance, f"outputs are off by {error:.3g} of the largest"

    @check(
        "transform.equivalent",
        "the model that comes out must compute what the one that went in does",
        "Compare outputs on the example inputs, and refuse where they differ.",
    )
    @MODELS
    def test_outputs_agree(self, model: type[nn.Module]) -> None:
        made = self.trained(model)
        changed = self.apply(made)
        with torch.no_grad():
            for size in (16, 1, 3):
                (x,) = self.inputs(size)
                self.assert_equal(changed(x), made(x))

    @check(
        "transform.original",
        "the model that went in is still the user's",
        "Work on a deep copy.",
    )
    @MODELS
    def test_the_original_is_left_alone(self, model: type[nn.Module]) -> None:
        made = self.trained(model)
        before, values = jobs.snapshot(made), jobs.values(made)
        self.apply(made)
        assert jobs.snapshot(made) == before
        assert jobs.same_values(made, values)

    @check(
        "transform.module",
        "what comes out is used like any model",
        "Return a torch.nn.Module.",
    )
    @MODELS
    def test_a_module_comes_out(self, model: type[nn.Module]) -> None:
        assert isinstance(self.apply(self.trained(model)), nn.Module)

    @check(
        "transform.deterministic",
        "the same model must give the same result",
        "Draw random numbers from a generator seeded by the options.",
    )
    def test_deterministic(self) -> None:
        made, (x,) = self.trained(ConvNorm), self.inputs()
        with torch.no_grad():
            assert torch.equal(self.apply(made)(x), self.apply(made)(x))

    @check(
        "transform.random-state",
        "transforming a model must not change what is drawn afterwards",
        "Use a generator of your own.",
    )
    def test_random_state_is_left_alone(self) -> None:
        made = self.trained(ConvNorm)
        before = torch.get_rng_state()
        self.apply(made)
        assert torch.equal(torch.get_rng_state(), before)

    @check(
        "transform.again",
        "a transformed model may be transformed again",
        "Leave alone what is as you want it already, or refuse.",
    )
    def test_applied_twice(self) -> None:
        made = self.trained(ConvNorm)
        once = self.apply(made)
        twice = self.apply(once)
        (x,) = self.inputs()
        with torch.no_grad():
            self.assert_equal(twice(x), made(x))

    @check(
        "transform.copy",
        "models are copied",
        "Keep everything that a forward needs in modules, parameters and plain attributes.",
    )
    def test_the_result_can_be_copied(self) -> None:
        changed = self.apply(self.trained(ConvNorm))
        (x,) = self.inputs()
        with torch.no_grad():
            assert torch.equal(copy.deepcopy(changed)(x), changed(x))

    @check(
        "transform.state",
        "weights are saved by state_dict and loaded with weights_only=True",
        "Keep weights in parameters and buffers.",
    )
    def test_the_results_state_can_be_saved(self) -> None:
        changed = self.apply(self.trained(ConvNorm))
        file = io.BytesIO()
        torch.save(changed.state_dict(), file)
        file.seek(0)
        changed.load_state_dict(torch.load(file, weights_only=True))

    @check(
        "transform.modes",
        "the training flag of the original tells what is asked for",
        "Work on a copy in evaluation mode, and do not switch the original.",
    )
    def test_the_original_keeps_its_mode(self) -> None:
        made = self.trained(ConvNorm)
        made.get_submodule("drop").train()
        modes = [module.training for module in made.modules()]
        self.apply(made)
        assert [module.training for module in made.modules()] == modes

    @check(
        "transform.grad-mode",
        "gradients must not be switched off for whoever comes next",
        "Use torch.no_grad as a context.",
    )
    def test_grad_mode_is_left_alone(self) -> None:
        self.apply(self.trained(ConvNorm))
        assert torch.is_grad_enabled()

    @check(
        "transform.report",
        "users want to know what was changed and what was not",
        "Return it from report().",
    )
    def test_the_report_says_what_was_done(self) -> None:
        part = self.transform()
        try:
            ds.transform(self.trained(ConvNorm), part, self.inputs())
        except RefusedError as refusal:
            pytest.skip(f"refused: {refusal}")
        assert part.report()

    @check(
        "transform.attached",
        "a model that is being trained is not transformed",
        "Nothing: ds_core.transform refuses; do not call the hook yourself.",
    )
    def test_an_attached_model_is_refused(self) -> None:
        made = jobs.Mlp()
        with ds.attach(made, config={"backend": "cpu"}), pytest.raises(SessionError):
            ds.transform(made, self.transform(), self.inputs())

    @check(
        "transform.bad-inputs",
        "example inputs of the wrong shape get a sentence",
        "Let ds_core.transform run the model on them first, and raise only DsError.",
    )
    def test_wrong_example_inputs(self) -> None:
        with pytest.raises(DsError):
            ds.transform(self.trained(jobs.Mlp), self.transform(), (torch.randn(2, 3),))
