"""Models of convolutions."""

import torch
from idiom import Idiom, images
from torch import nn
from torch.nn import functional as F


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.one = nn.Conv2d(8, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.two = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + self.two(F.relu(self.bn(self.one(x))))
        return self.head(F.relu(x, inplace=True)).mean((2, 3))


class Bottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.reduce = nn.Conv2d(8, 4, 1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1, stride=2)
        self.expand = nn.Conv2d(4, 16, 1)
        self.bn = nn.BatchNorm2d(16)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        x = self.stem(x)
        out = self.bn(self.expand(self.middle(self.reduce(x).relu_()).relu_()))
        out += self.shortcut(x)
        return self.head(out.relu().mean([2, 3]))


class Dense(nn.Module):
    """Each layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6 + 4 * i) for i in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(6 + 4 * i, 4, 3, padding=1) for i in range(2))
        self.head = nn.Conv2d(14, 3, 1)

    def forward(self, x):
        features = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            features.append(layer(F.relu(norm(torch.cat(features, 1)))))
        return self.head(torch.cat(features, 1))


class Inception(nn.Module):
    """Branches of different widths side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(3, 5, 3, padding=1)
        self.head = nn.Conv2d(3 + 5 + 3, 4, 1)

    def forward(self, x):
        pooled = F.avg_pool2d(x, 3, 1, 1)
        return self.head(torch.cat([self.a(x), self.b(x), pooled], dim=1))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(8, 4, 1)
        self.up = nn.Conv2d(4, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = F.silu(self.stem(x))
        return self.head(x * F.hardsigmoid(self.up(F.relu(self.down(self.pool(x))))))


class SqueezeExciteByView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.fc1 = nn.Linear(8, 4)
        self.fc2 = nn.Linear(4, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        b, c, _, _ = x.size()
        gate = F.avg_pool2d(x, x.shape[-2:]).view(b, c)
        gate = torch.sigmoid(self.fc2(F.relu(self.fc1(gate)))).view(b, c, 1, 1)
        return self.head(x * gate.expand_as(x))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 12, 3, groups=6),
        nn.Conv2d(12, 2, 1),
    )


def resnext() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.Conv2d(12, 12, 3, groups=6, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
    )


def wide_groups() -> nn.Module:
    """Few groups of many channels, positions in which may go."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.Conv2d(12, 16, 3, groups=2, padding=1), nn.Conv2d(16, 4, 1)
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)
        self.out = nn.Conv2d(5 + 6, 2, 3, padding=1)

    def forward(self, x):
        first = F.relu(self.down(x))
        second = F.relu(self.inner(F.max_pool2d(first, 2)))
        return self.out(torch.cat((self.up(second), first), 1))


class GroupedTranspose(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        return self.head(self.up(self.stem(x)))


class Pyramid(nn.Module):
    """Features of several sizes are given back."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 6, 3, padding=1)
        self.c2 = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.inner1 = nn.Conv2d(6, 4, 1)
        self.inner2 = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        one = F.relu(self.c1(x))
        two = F.relu(self.c2(one))
        top = self.inner2(two)
        side = F.interpolate(top, size=one.shape[-2:], mode="nearest")
        return {"p1": self.inner1(one) + side, "p2": top}


class PaddedShortcut(nn.Module):
    """The shortcut of a network that widens, without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 10, 3, padding=1, stride=2)
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


CONVOLUTION: tuple[Idiom, ...] = (
    Idiom("plain", plain, images(), {"0": 8, "4": 6}, {"8.weight": "makes the model's output"}),
    Idiom("residual", Residual, images(), {"stem": 8, "one": 6}),
    Idiom("bottleneck", Bottleneck, images(), {"stem": 8, "reduce": 4, "middle": 4, "expand": 16}),
    Idiom("dense", Dense, images(), {"stem": 6, "layers.0": 4, "layers.1": 4}),
    Idiom("inception", Inception, images(), {"a": 3, "b": 5}),
    Idiom("squeeze-excite", SqueezeExcite, images(), {"stem": 8, "down": 4}),
    Idiom("squeeze-excite by view", SqueezeExciteByView, images(), {"stem": 8, "fc1": 4}),
    Idiom("depthwise", depthwise, images(), {"0": 8, "4": 6}),
    Idiom("resnext", resnext, images(), {"0": 6}),
    Idiom("few wide groups", wide_groups, images(), {"0": 6, "1": 8}),
    Idiom("u-net", UNet, images(), {"down": 6, "inner": 8, "up": 5}),
    Idiom("grouped transpose", GroupedTranspose, images(), {"stem": 4}),
    Idiom("pyramid", Pyramid, images(), {"c1": 6, "c2": 8}),
    Idiom("padded shortcut", PaddedShortcut, images(), {"stem": 6}),
)
