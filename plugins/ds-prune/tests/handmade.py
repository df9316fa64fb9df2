"""Small models with structures that were written by hand, for tests of what uses structures."""

import itertools

import numpy as np
import torch
from ds_prune.structure import Extent, Group, Member, Structure, Work
from torch import nn

from ds_core.demo.net import ResidualNet


def structure_of(model, links, x):
    """A structure from `{group: [(tensor, dim, role) or (tensor, dim, role, index)]}`.

    Extents follow from the members, and work from a forward of `x`, for linear layers and
    convolutions.
    """
    sizes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    sizes |= {name: tuple(buffer.shape) for name, buffer in model.named_buffers()}
    groups = []
    for name, members in links.items():
        made = []
        for tensor, dim, role, *index in members:
            rows = index[0] if index else np.arange(sizes[tensor][dim]).reshape(-1, 1)
            made.append(Member(tensor, dim, role, np.asarray(rows, np.int64)))
        groups.append(Group(name, "channel", tuple(made)))

    def extent(tensor, dim):
        parts = {
            group.name: np.full(group.count, member.index.shape[1])
            for group in groups
            for member in group.members
            if (member.tensor, member.dim) == (tensor, dim)
        }
        taken = sum(int(counts.sum()) for counts in parts.values())
        return Extent(sizes[tensor][dim] - taken, parts)

    shapes = {
        name: tuple(extent(name, dim) for dim in range(parameter.dim()))
        for name, parameter in model.named_parameters()
    }
    work = []

    def note(name):
        def hook(module, inputs, output):
            weight = module.weight
            positions = output.numel() // weight.shape[0]
            repeats = positions * weight[0, 0].numel()
            kind = "linear" if isinstance(module, nn.Linear) else "conv2d"
            work.append(Work(name, kind, repeats, shapes[f"{name}.weight"][:2]))

        return hook

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return Structure(tuple(groups), (), shapes, tuple(work))


def normalised_convolution(convolution, norm):
    """The members that a convolution's outputs have in it and in the normalisation after it."""
    return [
        (f"{convolution}.weight", 0, "produce"),
        *((f"{norm}.{name}", 0, "follow") for name in ("weight", "bias")),
        *((f"{norm}.{name}", 0, "follow") for name in ("running_mean", "running_var")),
    ]


def perceptron(widths=(6, 16, 12, 4)):
    """Linear layers `0`, `2`, ... with ReLU between them."""
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    links = {
        str(n): [(f"{n}.weight", 0, "produce"), (f"{n}.bias", 0, "produce")]
        + [(f"{n + 2}.weight", 1, "consume")]
        for n in range(0, len(model) - 2, 2)
    }
    x = torch.randn(5, widths[0])
    return model, structure_of(model, links, x), x


def convolutional(width=12, side=8):
    """Two convolutions, a normalisation and, over all pixels of its channels, a linear layer."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * side * side, 10),
    )
    pixels = np.arange(width * side * side).reshape(width, -1)
    links = {
        "0": [
            *normalised_convolution("0", "1"),
            ("0.bias", 0, "produce"),
            ("3.weight", 1, "consume"),
        ],
        "3": [
            ("3.weight", 0, "produce"),
            ("3.bias", 0, "produce"),
            ("6.weight", 1, "consume", pixels),
        ],
    }
    x = torch.randn(4, 3, side, side)
    return model, structure_of(model, links, x), x


def residual(widths=(16, 32, 64), channels=1, side=8):
    """The net of the core's demo: stages with one block each, classes from the average."""
    model = ResidualNet(channels, 10, widths)
    links = {}
    carrier, users = "stem.0", normalised_convolution("stem.0.0", "stem.0.1")
    for stage, _ in enumerate(widths):
        block = f"stages.{stage}"
        inputs = [(f"{block}.first.0.weight", 1, "consume")]
        second = normalised_convolution(f"{block}.second.0", f"{block}.second.1")
        links[f"{block}.first"] = [
            *normalised_convolution(f"{block}.first.0", f"{block}.first.1"),
            (f"{block}.second.0.weight", 1, "consume"),
        ]
        if isinstance(model.stages[stage].skip, nn.Identity):
            users += [*second, *inputs]
        else:
            links[carrier] = [*users, *inputs, (f"{block}.skip.0.weight", 1, "consume")]
            carrier = f"{block}.second"
            users = [*second, *normalised_convolution(f"{block}.skip.0", f"{block}.skip.1")]
    links[carrier] = [*users, ("head.2.weight", 1, "consume")]
    x = torch.randn(2, channels, side, side)
    return model, structure_of(model, links, x), x


def without(model, structure, kept):
    """Set all weights to zero by which removed atoms are used, as if they were not there."""
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for group in structure.groups:
            if group.name not in kept:
                continue
            for member in group.members:
                if member.role == "consume":
                    gone = torch.from_numpy(member.index[~kept[group.name]].ravel())
                    tensors[member.tensor].index_fill_(member.dim, gone, 0.0)
    return model
