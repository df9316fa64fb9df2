"""Models with and without what advice is about."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Function(nn.Module):
    """A module that is one function of its input."""

    def __init__(self, function, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*modules)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.inner(x))


class ChannelNorm(nn.Module):
    """Layer normalisation over channels, in whatever layout the input has."""

    def __init__(self, channels: int, restore: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.restore = restore

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        return x.contiguous() if self.restore else x


def channel_norms(restore: bool = True) -> nn.Module:
    return nn.Sequential(*(ChannelNorm(32, restore) for _ in range(3))).eval()


def small_steps(x: Tensor) -> Tensor:
    for _ in range(100):
        x = x + 1
    return x


def one_by_one(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row in x])


def read_back(x: Tensor) -> Tensor:
    return x * sum(float(row[0]) for row in x[:20])


def chain(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))


def spelled_out(x: Tensor) -> Tensor:
    return torch.softmax(torch.bmm(x, x.transpose(1, 2)) / 8, -1).bmm(x)


def one_call(x: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(x, x, x)


def filling(x: Tensor) -> Tensor:
    for _ in range(4):
        x = torch.zeros_like(x) + x
    return x


def normalised() -> nn.Module:
    layers = [nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16)) for _ in range(3)]
    return nn.Sequential(*layers).eval()


def folded() -> nn.Module:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    return nn.Sequential(*(fuse_conv_bn_eval(*layer) for layer in normalised()))


def deep(layers: int = 20) -> nn.Module:
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
