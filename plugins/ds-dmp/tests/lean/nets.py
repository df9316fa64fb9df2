"""Small networks, and ways to attach to them and compare gradients."""

import contextlib

import torch
from ds_dmp.lean.memory import LeanMemory
from torch import nn

from ds_core.changes import Changes
from ds_core.forward import Surrounding


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        inside = self.relu(self.norm1(self.conv1(x)))
        return self.relu(self.norm2(self.conv2(inside)) + x)


def residual_net(width=16, activation=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        activation(),
        Residual(width),
        Residual(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


def images():
    return torch.randn(8, 3, 16, 16), torch.arange(8)


def encoder(width=64, dropout=0.0):
    layer = nn.TransformerEncoderLayer(
        width, 4, 4 * width, dropout, nn.GELU(), batch_first=True, norm_first=True
    )
    return nn.Sequential(
        nn.Linear(8, width), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    )


def sequences():
    return torch.randn(8, 32, 8), torch.randn(8, 32, 64)


@contextlib.contextmanager
def lean(model, *arounds, **options):
    """A LeanMemory on a model, undone at the end; further arounds go inside."""
    changes = Changes()
    memory = LeanMemory(model, changes, **{"plus": False, **options})
    Surrounding(model, [memory.around(), *arounds], changes, keep=None)
    try:
        yield memory
    finally:
        changes.undo()


def loss_of(model, x, y):
    output = model(x)
    if y.is_floating_point():
        return nn.functional.mse_loss(output, y)
    return nn.functional.cross_entropy(output, y)


def gradients(model, x, y):
    model.zero_grad()
    loss_of(model, x, y).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def difference(got, expected):
    return float((got - expected).norm() / expected.norm())
