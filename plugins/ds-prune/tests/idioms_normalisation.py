"""Models of convolutions with normalisations and gates."""

import torch
from idiom import Idiom, images
from torch import nn
from torch.nn import functional as F


class GroupNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3)
        self.norm = nn.GroupNorm(3, 12)
        self.second = nn.Conv2d(12, 6, 1)
        self.each = nn.GroupNorm(6, 6)
        self.third = nn.Conv2d(6, 8, 1)
        self.all = nn.GroupNorm(1, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x)))
        return self.head(self.all(self.third(self.each(self.second(x)))))


class Upsampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 5, 3, padding=1)
        self.c = nn.Conv2d(5, 2, 3)

    def forward(self, x):
        x = F.interpolate(self.a(x), scale_factor=2, mode="bilinear", align_corners=False)
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return self.c(nn.functional.instance_norm(F.prelu(self.b(x), torch.tensor([0.1]))))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.gate = nn.Conv2d(3, 8, 1)
        self.slope = nn.PReLU(8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.head(self.slope(self.stem(x)) * torch.sigmoid(self.gate(x)))


class SpatialAttention(nn.Module):
    """Statistics over channels that say something about places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(2, 1, 3, padding=1)
        self.next = nn.Conv2d(8, 6, 1)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.stem(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(self.next(x * torch.sigmoid(self.conv(pooled))))


class Standardised(nn.Module):
    """Weights of zero mean and unit variance."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.conv = nn.Conv2d(6, 8, 3)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        w = self.conv.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return self.head(F.conv2d(self.stem(x), w, self.conv.bias))


class StandardisedByNorm(Standardised):
    """The same by a normalisation that is made for something else (BiT)."""

    def forward(self, x):
        w = self.conv.weight
        w = F.batch_norm(w.reshape(1, w.shape[0], -1), None, None, training=True).reshape_as(w)
        return self.head(F.conv2d(self.stem(x), w, self.conv.bias))


NORMALISATION: tuple[Idiom, ...] = (
    Idiom(
        "group norm",
        GroupNormed,
        images(),
        {"conv": 3, "second": 6, "third": 8},
        normalised=frozenset({"third"}),
    ),
    Idiom("upsampling", Upsampling, images(), {"a": 6, "b": 5}),
    Idiom("gate", Gate, images(), {"stem": 8}),
    Idiom(
        "spatial attention",
        SpatialAttention,
        images(),
        {"next": 6},
        {"stem.weight": "statistics are taken over it"},
    ),
    Idiom(
        "weight standardisation",
        Standardised,
        images(),
        {"stem": 6, "conv": 8},
        normalised=frozenset({"stem"}),
    ),
    Idiom(
        "weight standardisation by norm",
        StandardisedByNorm,
        images(),
        {"stem": 6, "conv": 8},
        normalised=frozenset({"stem"}),
    ),
)
