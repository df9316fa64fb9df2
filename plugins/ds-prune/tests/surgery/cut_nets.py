"""Small models with structures written by hand, and what they compute without some atoms."""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from ds_prune.structure import Group, Member, Structure
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F


@dataclass
class Net:
    """A model with its structure; as an analysis, it computes references on a copy."""

    model: nn.Module
    structure: Structure
    args: tuple
    kwargs: dict = field(default_factory=dict)
    ways = ()

    def reference(self, kept, args=None, kwargs=None):
        """The whole model's outputs where nothing reads the removed atoms."""
        whole = copy.deepcopy(self.model).eval()
        tensors = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
        with torch.no_grad():
            for group in self.structure.groups:
                gone = ~kept.get(group.name, np.ones(group.count, bool))
                for member in group.members:
                    if member.role == "consume":
                        index = torch.from_numpy(member.index[gone].ravel())
                        tensors[member.tensor].index_fill_(member.dim, index, 0)
            return whole(*(args or self.args), **(kwargs or self.kwargs))

    def output(self):
        """What the model computes now, in evaluation mode."""
        with torch.no_grad():
            return copy.deepcopy(self.model).eval()(*self.args, **self.kwargs)


def net(model, x, links, **kwargs):
    """`links` has for each group's name `(tensor, dim, role[, index])`; or a kind before these."""
    sizes = {name: tensor.shape for name, tensor in model.named_parameters()}
    sizes |= {name: tensor.shape for name, tensor in model.named_buffers()}
    groups = []
    for name, members in links.items():
        kind = members.pop(0) if isinstance(members[0], str) else "channel"
        made = []
        for tensor, dim, role, *index in members:
            rows = index[0] if index else np.arange(sizes[tensor][dim])[:, None]
            made.append(Member(tensor, dim, role, np.asarray(rows, np.int64)))
        groups.append(Group(name, kind, tuple(made)))
    randomise(model)
    args = x if isinstance(x, tuple) else (x,)
    return Net(model, Structure(tuple(groups), (), {}, ()), args, kwargs)


def randomise(model):
    """Give every normalisation something of its own to do."""
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.add_(
                    torch.randn_like(tensor) / 4
                )


def rows(name, norm=None, bias=True):
    """Members that a layer's outputs have in it, and in a BatchNorm after it."""
    found = [(f"{name}.weight", 0, "produce")]
    if bias:
        found.append((f"{name}.bias", 0, "produce"))
    if norm:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            found.append((f"{norm}.{tensor}", 0, "follow"))
    return found


def blocks(count, size, repeats=1):
    """Indices of `count` atoms of `size` neighbours, again in each of `repeats` equal parts."""
    one = np.arange(count * size).reshape(count, size)
    return np.concatenate([one + part * count * size for part in range(repeats)], axis=1)


def stack():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(),
        nn.Linear(6 * 4 * 4, 5),
    )  # fmt: skip
    links = {
        "0": [*rows("0", "1"), ("3.weight", 1, "consume")],
        "3": [*rows("3"), ("5.weight", 1, "consume", blocks(6, 16))],
    }
    return net(model, torch.randn(2, 3, 8, 8), links)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = x + self.two(F.relu(self.one(x)))
        return self.head(x.mean((2, 3)))


def residual():
    links = {
        "stem": [
            *rows("stem", "norm", bias=False), *rows("two"), ("one.weight", 1, "consume"),
            ("head.weight", 1, "consume"),
        ],
        "one": [*rows("one"), ("two.weight", 1, "consume")],
    }  # fmt: skip
    return net(Residual(), torch.randn(2, 3, 6, 6), links)


def depthwise():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
    )
    follow = [("1.weight", 0, "follow"), ("1.bias", 0, "follow"), *rows("1", "2")[2:]]
    return net(
        model,
        torch.randn(2, 3, 5, 5),
        {"0": [*rows("0"), *follow, ("3.weight", 1, "consume")]},
    )


def whole_groups():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 4, 1))
    links = {
        "0": [
            "block",
            ("0.weight", 0, "produce", blocks(4, 2)), ("0.bias", 0, "produce", blocks(4, 2)),
            ("1.weight", 0, "follow", blocks(4, 3)), ("1.bias", 0, "follow", blocks(4, 3)),
            ("2.weight", 1, "consume", blocks(4, 3)),
        ]
    }  # fmt: skip
    return net(model, torch.randn(2, 3, 5, 5), links)


def in_each_group():
    model = nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, groups=4), nn.Conv2d(8, 4, 1))
    inner, outer = blocks(3, 1, 4), blocks(2, 1, 4)
    links = {
        "0": [
            "block",
            ("0.weight", 0, "produce", inner), ("0.bias", 0, "produce", inner),
            ("1.weight", 1, "consume"),
        ],
        "1": [
            "block",
            ("1.weight", 0, "produce", outer), ("1.bias", 0, "produce", outer),
            ("2.weight", 1, "consume", outer),
        ],
    }  # fmt: skip
    return net(model, torch.randn(2, 3, 5, 5), links)


def transposed():
    model = nn.Sequential(
        nn.Conv1d(2, 6, 1), nn.ConvTranspose1d(6, 6, 3, groups=6), nn.ConvTranspose1d(6, 8, 2),
        nn.InstanceNorm1d(8), nn.Conv1d(8, 3, 1),
    )  # fmt: skip
    links = {
        "0": [
            *rows("0"), ("1.weight", 0, "follow"), ("1.bias", 0, "follow"),
            ("2.weight", 0, "consume"),
        ],
        "2": [("2.weight", 1, "produce"), ("2.bias", 0, "produce"), ("4.weight", 1, "consume")],
    }  # fmt: skip
    return net(model, torch.randn(2, 2, 7), links)


def norm_groups(affine=True):
    model = nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.GroupNorm(4, 12, affine=affine), nn.PReLU(12), nn.Conv2d(12, 4, 1)
    )
    index = blocks(4, 3)
    tensors = ["0.weight", "0.bias", *(["1.weight", "1.bias"] if affine else []), "2.weight"]
    members = [(name, 0, "follow", index) for name in tensors]
    links = {"0": ["block", *members, ("3.weight", 1, "consume", index)]}
    return net(model, torch.randn(2, 3, 4, 4), links)


class Tied(nn.Module):
    """An embedding whose weight is the head's too, and a layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.embed, self.again = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.wide = torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 10))
        self.back, self.head = nn.Linear(10, 8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.again(self.again(self.embed(x)).relu())
        return self.head(self.back(self.wide(x).relu()))


def tied():
    made = "wide.parametrizations.weight."
    links = {
        "wide": [
            (made + "original0", 0, "produce"), (made + "original1", 0, "produce"),
            ("wide.bias", 0, "produce"), ("back.weight", 1, "consume"),
        ],
        "back": [*rows("back"), ("embed.weight", 1, "consume"), ("again.weight", 1, "consume"),
                 *rows("again"), (made + "original1", 1, "consume")],
    }  # fmt: skip
    found = net(Tied(), torch.randint(11, (2, 5)), links)
    # Its own norm would see the channels that are gone: only the first group can be checked so.
    first = Structure(found.structure.groups[:1], (), {}, ())
    return Net(found.model, first, found.args)


class Heads(nn.Module):
    """Attention whose forward is written with attributes of its own."""

    def __init__(self, size=16, heads=4):
        super().__init__()
        self.dim, self.num_heads, self.head_dim, self.inner_dim = size, heads, size // heads, size
        self.settings = {"heads": heads}
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x):
        batch, tokens, size = x.shape
        assert size == self.dim
        x = self.qkv(x).view(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = x.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.out(x.reshape(batch, tokens, self.inner_dim))


def heads():
    index = blocks(4, 4, 3)
    links = {
        "qkv": [
            "head",
            ("qkv.weight", 0, "produce", index), ("qkv.bias", 0, "produce", index),
            ("out.weight", 1, "consume", blocks(4, 4)),
        ]
    }  # fmt: skip
    return net(Heads(), torch.randn(2, 3, 16), links)


def encoder_links(prefix, heads, size):
    index = blocks(heads, size, 3)
    return {
        f"{prefix}self_attn": [
            "head",
            (f"{prefix}self_attn.in_proj_weight", 0, "produce", index),
            (f"{prefix}self_attn.in_proj_bias", 0, "produce", index),
            (f"{prefix}self_attn.out_proj.weight", 1, "consume", blocks(heads, size)),
        ],
        f"{prefix}linear1": [
            *rows(f"{prefix}linear1"), (f"{prefix}linear2.weight", 1, "consume"),
        ],
    }  # fmt: skip


def encoder():
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    links = {**encoder_links("layers.0.", 4, 4), **encoder_links("layers.1.", 4, 4)}
    return net(model, torch.randn(2, 5, 16), links)


class Gated(nn.Module):
    """A gated unit that splits by a size of its own."""

    def __init__(self, size=6, hidden=10):
        super().__init__()
        self.hidden = hidden
        self.up, self.down = nn.Linear(size, 2 * hidden), nn.Linear(hidden, size)

    def forward(self, x):
        value, gate = self.up(x).split(self.hidden, -1)
        return self.down(value * gate.sigmoid())


def gated():
    index = blocks(10, 1, 2)
    links = {
        "up": [
            ("up.weight", 0, "produce", index), ("up.bias", 0, "produce", index),
            ("down.weight", 1, "consume"),
        ]
    }  # fmt: skip
    return net(Gated(), torch.randn(3, 6), links)


NETS = {
    made.__name__: made
    for made in (
        stack, residual, depthwise, whole_groups, in_each_group, transposed, norm_groups, tied,
        heads, encoder, gated,
    )
}  # fmt: skip


def masks(structure):
    """Kept atoms for each group, at least one each."""
    return st.fixed_dictionaries(
        {
            group.name: st.lists(
                st.booleans(), min_size=group.count, max_size=group.count
            ).filter(any).map(np.array)
            for group in structure.groups
        }
    )  # fmt: skip


def half(structure):
    """Every other atom of each group."""
    return {group.name: np.arange(group.count) % 2 == 0 for group in structure.groups}
