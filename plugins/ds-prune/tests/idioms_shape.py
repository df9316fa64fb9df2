"""Models that reshape, split and join."""

import torch
from idiom import Idiom, images, tokens
from torch import nn
from torch.nn import functional as F


def flattened() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 4))


class SplitGate(nn.Module):
    """A gated linear unit by `chunk`."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(6, 16)
        self.down = nn.Linear(8, 6)

    def forward(self, x):
        value, gate = self.both(x).chunk(2, dim=-1)
        return self.down(value * F.gelu(gate))


class ManyParts(nn.Module):
    """More parts than channels in each."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.Linear(6, 8)
        self.down = nn.Linear(2, 3)

    def forward(self, x):
        a, b, c, d = self.all(x).split(self.down.in_features, dim=-1)
        return self.down(a * b + c * d)


class SliceGate(nn.Module):
    """A gated linear unit by two slices."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(6, 16)
        self.down = nn.Linear(8, 6)

    def forward(self, x):
        x = self.both(x)
        half = x.shape[-1] // 2
        return self.down(x[..., :half] * torch.sigmoid(x[..., half:]))


class PartialSlice(nn.Module):
    """Some channels by number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.head(self.conv(x)[:, :3])


class ChannelSplit(nn.Module):
    """One half of the channels goes by (ShuffleNet V2), then all are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.one = nn.Conv2d(6, 6, 1)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.two = nn.Conv2d(6, 6, 1)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        left, right = self.stem(x).chunk(2, dim=1)
        right = self.two(self.deep(self.one(right)))
        x = torch.cat((left, right), dim=1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
        return self.head(x)


class PixelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 1)
        self.up = nn.PixelShuffle(2)
        self.b = nn.Conv2d(4, 3, 1)
        self.down = nn.PixelUnshuffle(2)
        self.c = nn.Conv2d(12, 2, 1)

    def forward(self, x):
        return self.c(self.down(self.b(self.up(self.a(x)))))


class PixelShuffleByView(nn.Module):
    """The same by `view` and `permute`."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 16, 1)
        self.b = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        x = self.a(x)
        b, c, h, w = x.shape
        x = x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return self.b(x.reshape(b, c // 4, h * 2, w * 2))


class Windows(nn.Module):
    """Tokens are put into windows and back (Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.merge = nn.Linear(32, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = torch.roll(self.norm(x), shifts=(-1, -1), dims=(1, 2))
        y = y.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        y = self.down(F.gelu(self.up(y)))
        y = y.view(b, h // 2, w // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)
        x = x + torch.roll(y, shifts=(1, 1), dims=(1, 2))
        parts = [x[:, i::2, j::2] for j in range(2) for i in range(2)]
        return self.head(self.merge(torch.cat(parts, -1)).mean((1, 2)))


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.gamma = nn.Parameter(0.5 * torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean([-2, -1]))


class Mixer(nn.Module):
    """A perceptron over tokens and one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.across = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 5))
        self.within = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.within(x)
        return self.head(x.mean(dim=1))


class Stacked(nn.Module):
    """Two branches summed over a dimension of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        both = torch.stack([self.a(x), self.b(x)], dim=0)
        return self.head(both.sum(0).unsqueeze(0).squeeze(0))


class Unequal(nn.Module):
    """Parts of different sizes by number."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(6, 10)
        self.a = nn.Linear(6, 3)
        self.b = nn.Linear(4, 3)

    def forward(self, x):
        one, two = self.both(x).split([6, 4], dim=-1)
        return self.a(one) + self.b(two)


SHAPE: tuple[Idiom, ...] = (
    Idiom("flatten", flattened, images(), {"0": 5}),
    Idiom("gate by chunk", SplitGate, tokens(6), {"both": 8}),
    Idiom("many parts", ManyParts, tokens(6), {"all": 2}),
    Idiom("gate by slices", SliceGate, tokens(6), {"both": 8}),
    Idiom(
        "channels by number", PartialSlice, images(), {}, {"conv.weight": "is taken by position"}
    ),
    Idiom("channel split and shuffle", ChannelSplit, images(), {"stem": 6, "one": 6}),
    Idiom("pixel shuffle", PixelShuffle, images(), {"a": 4, "b": 3}),
    Idiom("pixel shuffle by view", PixelShuffleByView, images(), {"a": 4}),
    Idiom(
        "windows",
        Windows,
        images(),
        {"embed": 8, "up": 12, "merge": 6},
        normalised=frozenset({"embed"}),
    ),
    Idiom("convnext", ConvNeXt, images(), {"stem": 8, "up": 16}, normalised=frozenset({"stem"})),
    Idiom(
        "mixer",
        Mixer,
        tokens(6),
        {"embed": 8, "across.0": 7, "within.0": 10},
        {"across.0.weight": "sums over"},
    ),
    Idiom("stacked", Stacked, tokens(6), {"a": 8}),
    Idiom("unequal parts", Unequal, tokens(6), {}, {"both.weight": "unequal parts"}),
)
