"""Models of other kinds, and those that cannot be followed."""

import dataclasses
from typing import Any

import torch
from idiom import Idiom, images, numbers, tokens, words
from torch import nn
from torch.nn import functional as F


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Dropout(0.3), nn.Tanh(), nn.Linear(10, 3)
    )


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.block(self.block(self.embed(x))))


def weight_normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8),
        nn.ReLU(),
        nn.utils.parametrizations.weight_norm(nn.Linear(8, 10)),
        nn.ReLU(),
        nn.Linear(10, 2),
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.fc = nn.Linear(8, 7)
        self.head = nn.Linear(7, 2)

    def forward(self, x):
        return self.head(F.relu(self.fc(self.lstm(self.embed(x))[0][:, -1])))


class Audio(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 12, 5, stride=2)
        self.down = nn.Conv1d(6, 5, 3)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = F.glu(self.conv(x), dim=1)
        return self.head(F.leaky_relu(self.down(x)).mean(-1))


def volumes() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(6, 3, 1)
    )


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


class ManyOutputs(nn.Module):
    """Nested outputs, one of them of a type of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 4)
        self.c = nn.Linear(8, 5)
        self.d = nn.Linear(5, 2)

    def forward(self, x) -> dict[str, Any]:
        x = F.relu(self.a(x))
        return {"answer": Answer(self.d(self.c(x)), self.b(x)), "more": [x.shape[0], None]}


class OnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 2)

    def forward(self, x):
        x = self.a(x)
        if x.sum() > 0:
            x = F.relu(x)
        return self.b(x)


class OnShape(OnData):
    def forward(self, x):
        x = self.a(x)
        if x.shape[1] / 2 > 1.5 and x.dim() == 3:
            x = F.relu(x)
        return self.b(x)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class OwnFunction(OnData):
    def forward(self, x):
        return self.b(Doubled.apply(self.a(x)))


class NotExported(OnData):
    """What torch.export cannot follow and what is recorded instead."""

    def forward(self, x):
        if torch.compiler.is_exporting():
            raise NotImplementedError("no export")
        return self.b(self.a(x) * torch.tensor([2.0]))


class NotExportedOnData(OnData):
    def forward(self, x):
        if torch.compiler.is_exporting():
            raise NotImplementedError("no export")
        return super().forward(x)


class Strange(OnData):
    """An operation that mixes channels in a way of its own."""

    def forward(self, x):
        return self.b(torch.fft.fft(self.a(x), dim=-1).real)


class OwnNorm(nn.Module):
    """LayerNorm by hand, and division by lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.gain = nn.Parameter(torch.rand(8))
        self.b = nn.Linear(8, 5)
        self.c = nn.Linear(5, 2)

    def forward(self, x):
        x = self.a(x)
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        x = self.gain * (x - mean) / (variance + 1e-5).sqrt()
        return self.c(F.normalize(self.b(x), dim=-1))


class Unread(nn.Module):
    """A layer whose outputs no weight reads, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.idle = nn.Linear(8, 8)

    def forward(self, x):
        return self.a(x).sum(-1)


class WrittenInto(nn.Module):
    """A buffer of results that is filled part by part."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(8, 3)
        self.d = nn.Linear(4, 3)

    def forward(self, x):
        filled = torch.zeros(x.shape[0], x.shape[1], 8)
        part = self.b(x)
        filled[..., :4] = part
        return self.c(self.a(x) + filled) + self.d(part)


class ChannelSoftmax(nn.Module):
    """A distribution over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 5)
        self.c = nn.Linear(5, 2)

    def forward(self, x):
        return self.c(self.b(self.a(x).softmax(-1)))


class Experts(nn.Module):
    """All experts for all tokens, weighed by a router."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.router = nn.Linear(8, 3)
        self.up = nn.Parameter(torch.randn(3, 8, 10))
        self.down = nn.Parameter(torch.randn(3, 10, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x)
        weights = self.router(x).softmax(-1)
        y = torch.einsum("btc,ecf->btef", x, self.up).relu()
        y = torch.einsum("btef,efc->btec", y, self.down)
        return self.head(torch.einsum("bte,btec->btc", weights, y))


class Tied(nn.Module):
    """The embedding is the head as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.up = nn.Linear(8, 12)
        self.down = nn.Linear(12, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        return self.head(self.norm(x + self.down(torch.tanh(self.up(x)))))


class ClassToken(nn.Module):
    """A learned first token and learned places (ViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8))
        self.fc = nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.places
        return self.head(F.gelu(self.fc(x))[:, 0])


OTHER: tuple[Idiom, ...] = (
    Idiom("perceptron", perceptron, numbers(4, 6), {"0": 10}),
    Idiom("called twice", CalledTwice, tokens(6), {"embed": 8}),
    Idiom("weight norm", weight_normed, tokens(6), {"2": 10}, {"0.weight": "norm of weights"}),
    Idiom("recurrent", Recurrent, tokens(6), {"fc": 7}, {"lstm.weight_ih_l0": "recurrent"}),
    Idiom("audio", Audio, numbers(2, 1, 24), {"conv": 6, "down": 5}),
    Idiom("volumes", volumes, numbers(1, 2, 6, 6, 6), {"0": 6}),
    Idiom("many outputs", ManyOutputs, tokens(6), {"a": 8, "c": 5}),
    Idiom("branch on data", OnData, tokens(6), refused="branches on the values of its data"),
    Idiom("branch on shape", OnShape, tokens(6), {"a": 8}),
    Idiom("own function", OwnFunction, tokens(6), {"a": 8}),
    Idiom("not exported", NotExported, tokens(6), {"a": 8}),
    Idiom("not exported, on data", NotExportedOnData, tokens(6), refused="branches on the values"),
    Idiom("strange operation", Strange, tokens(6), {}, {"a.weight": "is not understood"}),
    Idiom("own norm", OwnNorm, tokens(6), {"a": 8, "b": 5}, normalised=frozenset({"a", "b"})),
    Idiom("unread", Unread, tokens(6), {}, {"a.weight": "statistics are taken over it"}),
    Idiom(
        "written into", WrittenInto, tokens(6), {}, {"a.weight": "combined", "b.weight": "combined"}
    ),
    Idiom("channel softmax", ChannelSoftmax, tokens(6), {"b": 5}, {"a.weight": "softmax"}),
    Idiom("experts", Experts, tokens(6), {"embed": 8, "up": 10, "down": 8}),
    Idiom("wrong inputs", perceptron, numbers(4, 6, 10), refused="do not fit"),
    Idiom(
        "tied embedding",
        Tied,
        words(),
        {"embed": 8, "up": 12},
        {"embed.weight": "looked up"},
        normalised=frozenset({"embed"}),
    ),
    Idiom("class token", ClassToken, images(), {"patch": 8, "fc": 6}),
)
