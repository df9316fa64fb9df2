"""Statistics of normalisations, and teachers."""

import copy

import pytest
import torch
from ds_prune.recovery.batchnorm import recalibrate
from ds_prune.recovery.distill import Teacher, distillation_loss
from handmade import convolutional, perceptron
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ds_core.errors import ConfigError, RefusedError


def test_statistics_are_averages_over_the_batches():
    model = nn.Sequential(nn.BatchNorm1d(3, momentum=0.3), nn.Dropout())
    batches = [torch.randn(16, 3) * scale + scale for scale in (1, 2, 5)]
    state = torch.get_rng_state()
    assert recalibrate(model, batches) == 1
    assert torch.equal(state, torch.get_rng_state()), "dropout was on"
    torch.testing.assert_close(model[0].running_mean, torch.stack(batches).mean((0, 1)))
    torch.testing.assert_close(model[0].running_var, torch.stack(batches).var(1).mean(0))
    assert model[0].momentum == 0.3
    assert model.training
    assert model[0].training


def test_only_statistics_change():
    model, _, x = convolutional()
    model.eval()
    state = copy.deepcopy(model.state_dict())
    recalibrate(model, [(x,), {"input": x}])  # a batch may be arguments of either kind
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value) != name.startswith("1.") or name in (
            "1.weight",
            "1.bias",
        )
    assert not any(module.training for module in model.modules())


def test_a_model_without_them_is_left_alone():
    model, _, x = perceptron()
    assert recalibrate(model, [x]) == 0


@pytest.mark.parametrize(
    ("batches", "error"), [([], RefusedError), ([torch.ones(2, 9)], Exception)]
)
def test_an_error_leaves_statistics_as_they_were(batches, error):
    model, _, x = convolutional()
    model(x)
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(error):
        recalibrate(model, batches)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.1


@given(st.integers(0, 1000), st.floats(0.5, 8))
@settings(deadline=None, max_examples=30)
def test_the_loss_is_the_divergence_of_softened_probabilities(seed, temperature):
    torch.manual_seed(seed)
    student, teacher = torch.randn(2, 4, 3, 5, dtype=torch.float64).float()
    p, q = ((logits / temperature).softmax(-1) for logits in (teacher, student))
    expected = (p * (p / q).log()).sum(-1).mean() * temperature**2
    found = distillation_loss(student, teacher, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert distillation_loss(student + 3, student, temperature).abs() < 1e-5


def test_gradients_are_those_of_a_cross_entropy_and_reach_the_student_alone():
    student = torch.randn(6, 5, requires_grad=True)
    teacher = torch.randn(6, 5, requires_grad=True)
    distillation_loss(student, teacher, 1.0).backward()
    found, student.grad = student.grad, None
    F.cross_entropy(student, teacher.detach().softmax(-1)).backward()
    torch.testing.assert_close(found, student.grad)
    assert teacher.grad is None


def test_bad_arguments_are_named():
    with pytest.raises(ConfigError, match="above 0, not 0"):
        distillation_loss(torch.ones(2, 3), torch.ones(2, 3), 0)
    with pytest.raises(ConfigError, match=r"\[2, 3\] logits and the teacher \[2, 4\]"):
        distillation_loss(torch.ones(2, 3), torch.ones(2, 4))


def test_a_teacher_stays_what_the_model_was():
    model, _, x = convolutional()
    model.train()
    right = copy.deepcopy(model).eval()(x)
    with Teacher(model) as teacher:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        torch.testing.assert_close(teacher(x), right)
        assert not teacher(x).requires_grad
        assert model.training
        assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(RefusedError, match="gone"):
        teacher(x)


def test_a_model_that_cannot_be_copied_cannot_teach():
    class Single(nn.Module):
        def __deepcopy__(self, memo):
            raise TypeError("one is enough")

    with pytest.raises(RefusedError, match="one is enough"):
        Teacher(Single())
