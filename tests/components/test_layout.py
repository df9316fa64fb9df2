import pytest
import torch
from torch import nn

from ds_core.builtin.cpu import Cpu


class Counting(nn.Module):
    """Dropout, batch norm, random numbers in eval mode, and a buffer that counts forwards."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 8, 3)
        )
        self.frozen = nn.BatchNorm2d(8).eval()
        self.head = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls += 1
        features = self.frozen(self.convolutions(images)).mean((2, 3))
        return self.head(features) + torch.rand(4)


def weights(model):
    return [module.weight for module in model.modules() if hasattr(module, "kernel_size")]


def test_layout_follows_the_report_and_nothing_else_changes():
    model = Counting()
    parameters = dict(model.named_parameters())
    values = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    images, state = torch.randn(8, 3, 16, 16), torch.get_rng_state()

    (sentence,) = Cpu().tune(model, (images,)).changes

    expected = (
        torch.channels_last if "laid out channels_last" in sentence else torch.contiguous_format
    )
    assert all(weight.is_contiguous(memory_format=expected) for weight in weights(model))
    assert "x " in sentence
    assert all(value is parameters[name] for name, value in model.named_parameters())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_the_user_s_channels_last_is_where_comparing_starts():
    model = Counting().to(memory_format=torch.channels_last)
    (sentence,) = Cpu().tune(model, (torch.randn(8, 3, 16, 16),)).changes
    assert "stay channels_last" in sentence or "laid out contiguous" in sentence
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last) == ("stay" in sentence)
        for weight in weights(model)
    )


@pytest.mark.parametrize("model", [nn.Linear(4, 2), nn.Conv2d(4, 4, 1), nn.Conv1d(4, 4, 3)])
def test_where_there_is_no_choice_nothing_runs(model):
    model.forward = None
    assert Cpu().tune(model, (torch.ones(1, 4),)).changes == ()


def test_a_model_that_fails_is_left_as_it_was():
    model = Counting()
    strides = [weight.stride() for weight in weights(model)]
    images, state = torch.randn(1, 5, 8, 8), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="channels"):
        Cpu().tune(model, (images,))
    assert [weight.stride() for weight in weights(model)] == strides
    assert model.training
    assert not model.frozen.training
    assert model.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_tied_weights_stay_tied():
    first, second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    Cpu().tune(model, (torch.randn(2, 4, 8, 8),))
    assert first.weight is second.weight
