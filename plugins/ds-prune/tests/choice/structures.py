"""Structures made up by chance, of models that need not exist."""

import itertools

import numpy as np
from ds_prune.structure import Extent, Group, Member, Structure, Work
from hypothesis import strategies as st


def layered(widths, atom_widths=None, normalised=(), last=10, first=3):
    """A chain of linear layers `layer0`, `layer1`, ...; a group between each two of them.

    Atoms of group `i` take `atom_widths[i]` channels each, of which there are `widths[i]`.
    """
    atom_widths = atom_widths or [1] * len(widths)
    groups, extents = [], [Extent(first)]
    for number, (width, each) in enumerate(zip(widths, atom_widths, strict=True)):
        index = np.arange(width).reshape(-1, each)
        name = f"layer{number}"
        members = (
            Member(f"{name}.weight", 0, "produce", index),
            Member(f"{name}.bias", 0, "produce", index),
            Member(f"layer{number + 1}.weight", 1, "consume", index),
        )
        kind = "channel" if each == 1 else "block"
        groups.append(Group(name, kind, members, number in normalised))
        extents.append(Extent(0, {name: np.full(len(index), each)}))
    extents.append(Extent(last))
    pairs = list(itertools.pairwise(extents))
    shapes = {}
    for number, (inputs, outputs) in enumerate(pairs):
        shapes[f"layer{number}.weight"] = (outputs, inputs)
        shapes[f"layer{number}.bias"] = (outputs,)
    work = [Work(f"layer{n}", "linear", 7 * n + 1, pair) for n, pair in enumerate(pairs)]
    return Structure(tuple(groups), (), shapes, tuple(work))


@st.composite
def structures(draw):
    """Any number of groups, and products of extents that several of them are part of."""
    counts = draw(st.lists(st.integers(2, 24), min_size=1, max_size=4))
    groups = []
    for number, count in enumerate(counts):
        each = draw(st.sampled_from([1, 1, 2, 3]))
        index = np.arange(count * each).reshape(count, each)
        member = Member(f"layer{number}.weight", 0, "produce", index)
        groups.append(Group(f"layer{number}", "block", (member,)))

    def extent():
        names = draw(st.sets(st.integers(0, len(counts) - 1), max_size=2))
        parts = {
            f"layer{n}": np.array(draw(st.lists(st.integers(0, 3), min_size=c, max_size=c)))
            for n, c in enumerate(counts)
            if n in names
        }
        return Extent(draw(st.integers(0 if parts else 1, 5)), parts)

    extents = st.builds(lambda n: tuple(extent() for _ in range(n)), st.integers(1, 3))
    own = [Extent(0, {g.name: np.full(g.count, g.members[0].index.shape[1])}) for g in groups]
    shapes = {f"layer{n}.weight": (one, Extent(4)) for n, one in enumerate(own)}
    shapes |= {f"more{n}": draw(extents) for n in range(draw(st.integers(0, 3)))}
    work = [Work("", "linear", draw(st.integers(1, 9)), (one, Extent(2))) for one in own]
    work += [
        Work("", "matmul", draw(st.integers(1, 9)), draw(extents))
        for _ in range(draw(st.integers(0, 3)))
    ]
    return Structure(tuple(groups), (), shapes, tuple(work))


@st.composite
def scores(draw, structure):
    """From 0 up, with some that are equal."""
    number = st.floats(0, 1e3) | st.sampled_from([0.0, 1.0])
    return {
        group.name: np.array(
            draw(st.lists(number, min_size=group.count, max_size=group.count)), np.float64
        )
        for group in structure.groups
    }


@st.composite
def masks(draw, structure):
    """Some groups, with some of their atoms kept."""
    found = {}
    for group in structure.groups:
        if draw(st.booleans()):
            kept = draw(st.lists(st.booleans(), min_size=group.count, max_size=group.count))
            found[group.name] = np.array(kept, np.bool_)
    return found
