"""Models that ask tensors for sizes: of buffers, which are fixed, and of data."""

import torch
from idiom import Idiom, numbers, tokens
from torch import nn
from torch.nn import functional as F


class SizesInBuffers(nn.Module):
    """A convolution that holds its sizes as tensors and pads to whole strides (EnCodec)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 5, stride=2)
        self.register_buffer("size", torch.tensor(5), persistent=False)
        self.register_buffer("stride", torch.tensor(2), persistent=False)
        self.head = nn.Conv1d(8, 2, 1)

    def forward(self, x):
        length = x.shape[-1]
        steps = torch.ceil((length - self.size) / self.stride).to(torch.int64)
        missing = steps * self.stride + self.size - length
        if missing > 0:
            x = F.pad(x, (0, missing))
        return self.head(F.elu(self.conv(x)))


class CountsCalls(nn.Module):
    """What it does depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.b = nn.Linear(8, 2)
        self.register_buffer("calls", torch.tensor(0), persistent=False)

    def forward(self, x):
        self.calls += 1
        x = self.a(x)
        return self.b(F.relu(x) if self.calls > 3 else x)


class SortedTokens(nn.Module):
    """Each expert gets the tokens that chose it, as many as they are (JetMoE)."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(6, 3)
        self.up = nn.Parameter(torch.randn(3, 10, 6))
        self.down = nn.Parameter(torch.randn(3, 6, 10))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = x.flatten(0, 1)
        chosen = self.router(x).argmax(-1)
        counts = F.one_hot(chosen, 3).sum(0).tolist()
        order = chosen.argsort()
        parts = x[order].split(counts)
        hidden = torch.cat([F.linear(one, self.up[n]) for n, one in enumerate(parts)])
        parts = F.relu(hidden).split(counts)
        out = torch.cat([F.linear(one, self.down[n]) for n, one in enumerate(parts)])
        return self.head(torch.zeros_like(x).index_add(0, order, out))


class GroupedExperts(nn.Module):
    """One product for all experts, which takes widths of multiples of 16 bytes only."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 8, 16))
        self.down = nn.Parameter(torch.randn(3, 16, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        ends = torch.tensor([2, 5, 6], dtype=torch.int32)
        hidden = F.relu(torch._grouped_mm(x, self.up, offs=ends))
        return self.head(torch._grouped_mm(hidden, self.down, offs=ends))


class MaskByPosition(nn.Module):
    """Attention with a mask made by a function of single positions under `torch.vmap`."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 24)
        self.out = nn.Linear(8, 6)

    def forward(self, x):
        places = torch.arange(x.shape[1])
        near = lambda one, other: (one - other).abs() < 3  # noqa: E731
        mask = torch.vmap(torch.vmap(near, (None, 0)), (0, None))(places, places)
        heads = self.qkv(x).view(*x.shape[:2], 3, -1, 2).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads.unbind(), attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class BranchesOnMask(nn.Module):
    """Tokens that are left out change what is computed, and too many of them are an error."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.gap = nn.Linear(6, 8)
        self.b = nn.Linear(8, 2)

    def forward(self, x, mask):
        if not mask.any():
            raise ValueError("There is no token.")
        h = self.a(x)
        if not mask.all():
            h = h * mask[..., None] + self.gap(x)
        return self.b(F.relu(h))


class NormalisesGaps(BranchesOnMask):
    """Statistics over channels are taken where tokens are left out only."""

    def forward(self, x, mask):
        h = self.a(x)
        return self.b(h if mask.all() else F.layer_norm(h, h.shape[-1:]))


def with_mask():
    return (*tokens(6)(), torch.ones(2, 5, dtype=torch.bool))


DATA: tuple[Idiom, ...] = (
    Idiom("sizes in buffers", SizesInBuffers, numbers(2, 3, 14), {"conv": 8}),
    Idiom("counts its calls", CountsCalls, tokens(6), {"a": 8}),
    Idiom("sorted tokens", SortedTokens, tokens(6), {"up": 10}),
    Idiom("grouped experts", GroupedExperts, numbers(6, 8), {"up": 16, "down": 8}),
    Idiom("mask by position", MaskByPosition, tokens(6), {"qkv": 4}, heads=frozenset({"qkv"})),
    Idiom("branches on a mask", BranchesOnMask, with_mask, {"a": 8}),
    Idiom(
        "normalises gaps",
        NormalisesGaps,
        with_mask,
        {"a": 8},
        normalised=frozenset({"a"}),
    ),
)
