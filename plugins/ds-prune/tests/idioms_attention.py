"""Models with attention."""

import math

import torch
from idiom import Idiom, images, tokens, words
from torch import nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(5, 16)
        self.memory = nn.Linear(5, 16)
        self.attention = nn.MultiheadAttention(16, 4)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = x.transpose(0, 1)
        memory = self.memory(x)
        return self.head(self.attention(self.query(x), memory, memory)[0])


class Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 12, batch_first=True, norm_first=norm_first)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.layer(self.embed(x)))


class FusedByUnbind(nn.Module):
    """One projection for query, key and value, in the manner of timm."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.num_heads, self.head_dim, self.fused = 3, 4, fused
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.gamma = nn.Parameter(0.1 * torch.ones(12))
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.embed(x)
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        y = self.proj(y.transpose(1, 2).reshape(b, n, self.num_heads * self.head_dim))
        return self.head(x + self.gamma * y)


class FusedByChunk(nn.Module):
    """One projection in three parts, and a causal mask in a buffer (GPT-2)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 12)
        self.places = nn.Parameter(torch.randn(1, 5, 12))
        self.num_heads = 3
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)
        self.register_buffer("mask", torch.ones(1, 1, 5, 5).tril().bool())
        self.head = nn.Linear(12, 11)

    def forward(self, ids):
        x = self.words(ids) + self.places
        b, t, _ = x.shape
        q, k, v = self.qkv(x).split(self.qkv.out_features // 3, dim=2)
        q, k, v = (y.view(b, t, self.num_heads, -1).transpose(1, 2) for y in (q, k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
        scores = scores.masked_fill(~self.mask[:, :, :t, :t], float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
        return self.head(x + self.proj(y.transpose(1, 2).contiguous().view(b, t, -1)))


class Grouped(nn.Module):
    """Several heads of queries for one of keys and values, with rotary places (Llama)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 16)
        self.how, self.head_dim = how, 4
        self.q_proj = nn.Linear(16, 24, bias=False)
        self.k_proj = nn.Linear(16, 12, bias=False)
        self.v_proj = nn.Linear(16, 12, bias=False)
        self.o_proj = nn.Linear(24, 16, bias=False)
        self.norm = nn.Parameter(torch.rand(16) + 0.5)
        self.gate = nn.Linear(16, 20, bias=False)
        self.up = nn.Linear(16, 20, bias=False)
        self.down = nn.Linear(20, 16, bias=False)
        self.head = nn.Linear(16, 11, bias=False)

    def normalised(self, x):
        return self.norm * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    @staticmethod
    def rotated(x):
        angle = torch.outer(torch.arange(x.shape[2]), torch.tensor([1.0, 0.1]))
        angle = torch.cat((angle, angle), -1)
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * angle.cos() + turned * angle.sin()

    def forward(self, ids):
        x = self.embed_tokens(ids)
        b, t, _ = x.shape
        y = self.normalised(x)
        q = self.rotated(self.q_proj(y).view(b, t, -1, self.head_dim).transpose(1, 2))
        k = self.rotated(self.k_proj(y).view(b, t, -1, self.head_dim).transpose(1, 2))
        v = self.v_proj(y).view(b, t, -1, self.head_dim).transpose(1, 2)
        if self.how == "interleave":
            k, v = (z.repeat_interleave(q.shape[1] // z.shape[1], dim=1) for z in (k, v))
        if self.how == "expand":
            k, v = (
                z[:, :, None]
                .expand(b, z.shape[1], 2, t, self.head_dim)
                .reshape(b, z.shape[1] * 2, t, self.head_dim)
                for z in (k, v)
            )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.how == "torch")
        x = x + self.o_proj(y.transpose(1, 2).reshape(b, t, -1))
        y = self.normalised(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(x)


class ByEinsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.q = nn.Linear(8, 8)
        self.k = nn.Linear(8, 8)
        self.v = nn.Linear(8, 8)
        self.out = nn.Parameter(torch.randn(2, 4, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = (layer(x).unflatten(-1, (-1, 4)) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).div(2).softmax(-1)
        y = torch.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.head(torch.einsum("bqhd,hde->bqe", y, self.out))


class Biased(nn.Module):
    """Relative places from a table of heads, and normalised queries (Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.table = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("index", torch.randint(0, 9, (4, 4)))
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(2)
        self.proj = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, -1, 2).permute(2, 0, 3, 1, 4)
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        scores = self.norm(q) @ self.norm(k).transpose(-2, -1) + bias.unsqueeze(0)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1)
        return self.head((x + self.proj(y)).mean(1))


class LearnedQueries(nn.Module):
    """Queries are parameters, and the scale is that of the size of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 8))
        self.k = nn.Linear(5, 8)
        self.v = nn.Linear(5, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        queries = self.queries.expand(x.shape[0], -1, -1)
        return self.out(F.scaled_dot_product_attention(queries, self.k(x), self.v(x)))


class LinearAttention(nn.Module):
    """Keys meet values first; all of a head is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.q = nn.Linear(8, 8)
        self.k = nn.Linear(8, 8)
        self.v = nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, 4, 2).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.elu(q) @ (F.elu(k).transpose(-2, -1) @ v)
        return self.out(y.transpose(1, 2).reshape(b, n, -1))


ATTENTION: tuple[Idiom, ...] = (
    Idiom(
        "self-attention",
        SelfAttention,
        tokens(5),
        {"embed": 16, "attention": 4},
        heads=frozenset({"attention"}),
    ),
    Idiom(
        "cross-attention",
        CrossAttention,
        tokens(5),
        {"query": 16, "attention": 4, "attention.out_proj": 16},
        heads=frozenset({"attention"}),
    ),
    *(
        Idiom(
            name,
            lambda first=first: Encoder(first),
            tokens(5),
            {"embed": 16, "layer.self_attn": 4, "layer.linear1": 12},
            normalised=frozenset({"embed"}),
            heads=frozenset({"layer.self_attn"}),
        )
        for name, first in (("encoder layer", False), ("encoder layer, norm first", True))
    ),
    *(
        Idiom(
            name,
            lambda fused=fused: FusedByUnbind(fused),
            tokens(5),
            {"embed": 12, "qkv": 3},
            heads=frozenset({"qkv"}),
        )
        for name, fused in (("fused qkv", True), ("fused qkv, by hand", False))
    ),
    Idiom("qkv in parts", FusedByChunk, words(), {"words": 12, "qkv": 3}, heads=frozenset({"qkv"})),
    *(
        Idiom(
            name,
            lambda how=how: Grouped(how),
            words(),
            {"embed_tokens": 16, "q_proj": 3, "gate": 20},
            normalised=frozenset({"embed_tokens"}),
            heads=frozenset({"q_proj"}),
        )
        for name, how in (
            ("grouped queries", "expand"),
            ("grouped queries by torch", "torch"),
            ("grouped queries, repeated", "interleave"),
        )
    ),
    Idiom("einsum", ByEinsum, tokens(5), {"embed": 8, "q": 2, "out": 6}, heads=frozenset({"q"})),
    Idiom("relative places", Biased, images(), {"embed": 8, "qkv": 4}, heads=frozenset({"qkv"})),
    Idiom(
        "learned queries",
        LearnedQueries,
        tokens(5),
        {"v": 6},
        {"k.weight": "scaled by its size", "queries": "scaled by its size"},
    ),
    Idiom(
        "linear attention",
        LinearAttention,
        tokens(5),
        {"embed": 8, "q": 4},
        heads=frozenset({"q"}),
        literal=frozenset({"q"}),
    ),
)
