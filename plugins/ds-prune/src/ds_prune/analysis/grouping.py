"""From classes of labels to groups of atoms, extents and reasons."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ds_prune.analysis.flow import HEAD, NORMALISED, Flow
from ds_prune.structure import Extent, Frozen, Group, Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ds_prune.analysis.labels import Labels
    from ds_prune.structure import Role

UNREAD = "nothing reads it that could tell what it is worth"
UNMADE = "only buffers hold it, which a forward may compute anew"
ALONE = "it goes as a whole or not at all"

_ORDER: Mapping[Role, int] = {"follow": 0, "produce": 1, "consume": 2}


@dataclass(frozen=True)
class Slot:
    """A dimension of a parameter or buffer that has labels, and all that it does."""

    tensor: str
    dim: int
    roles: frozenset[Role]
    labels: Labels

    @property
    def role(self) -> Role:
        """Of several the one that tells most: an embedding that is the head as well is read."""
        return max(self.roles, key=lambda role: _ORDER[role], default="follow")


@dataclass(frozen=True)
class Atoms:
    """Which atom each label belongs to.

    Attributes:
        groups: In the order of the layers that produce them.
        group: For each class's representative the number of its group, or -1.
        atom: And of its atom within the group.
    """

    groups: tuple[Group, ...]
    flow: Flow
    group: NDArray[np.int64]
    atom: NDArray[np.int64]

    def extent(self, labels: Labels) -> Extent:
        """How long a dimension with these labels is."""
        roots = self.flow.classes.find(labels)
        groups, atoms = self.group[roots], self.atom[roots]
        parts = {
            self.groups[number].name: np.bincount(
                atoms[groups == number], minlength=self.groups[number].count
            ).astype(np.int64)
            for number in np.unique(groups[groups >= 0])
        }
        return Extent(int((groups < 0).sum()), parts)


def gather(slots: list[Slot], flow: Flow, parameters: Collection[str]) -> Atoms:
    """Groups of the classes that may go.

    An atom is a class that is not frozen, that some weight reads, and that some parameter makes:
    tables in buffers are often computed anew for longer inputs, as wide as they were. Atoms that
    take the same number of indices from each dimension of each tensor make a group. Classes that
    make no atom are frozen here.
    """
    classes = flow.classes
    lengths = [len(slot.labels) for slot in slots]
    roots = classes.find(np.concatenate([np.zeros(0, np.int64), *(s.labels for s in slots)]))
    places = np.repeat(np.arange(len(slots)), lengths)
    indices = np.concatenate([np.zeros(0, np.int64), *(np.arange(n) for n in lengths)])
    movable = ~classes.frozen(roots)
    roots, places, indices = roots[movable], places[movable], indices[movable]

    reading = np.array([slot.role == "consume" for slot in slots], np.bool_)
    read = np.unique(roots[reading[places]])
    unread = np.setdiff1d(roots, read)
    classes.freeze(unread, UNREAD)
    making = np.array([s.role != "consume" and s.tensor in parameters for s in slots], np.bool_)
    unmade = np.setdiff1d(read, roots[making[places]])
    classes.freeze(unmade, UNMADE)
    movable = ~np.isin(roots, np.concatenate([unread, unmade]))
    roots, places, indices = roots[movable], places[movable], indices[movable]

    order = np.lexsort((indices, places, roots))
    roots, places, indices = roots[order], places[order], indices[order]
    starts = (
        np.flatnonzero(np.r_[True, roots[1:] != roots[:-1]]) if len(roots) else np.zeros(0, int)
    )
    ends = np.r_[starts[1:], len(roots)] if len(roots) else starts
    alike: dict[bytes, list[tuple[int, int]]] = {}
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        alike.setdefault(places[start:end].tobytes(), []).append((start, end))

    found: list[Group] = []
    taken: dict[str, int] = {}
    group = np.full(int(classes.size), -1, np.int64)
    atom = np.full(int(classes.size), -1, np.int64)
    ordered = sorted(alike.values(), key=lambda atoms: _first(places, slots, atoms[0]))
    for atoms in ordered:
        rows = np.array([start for start, _ in atoms])
        if len(atoms) == 1:
            classes.freeze(roots[rows], ALONE)
            continue
        width = atoms[0][1] - atoms[0][0]
        matrix = rows[:, None] + np.arange(width)
        pattern = places[matrix[0]]
        matrix = matrix[np.argsort(indices[matrix[:, 0]], kind="stable")]
        ranked = sorted(np.unique(pattern).tolist(), key=lambda place: _rank(slots, place))
        members = [
            Member(
                slots[place].tensor,
                slots[place].dim,
                slots[place].role,
                indices[matrix[:, pattern == place]],
            )
            for place in ranked
        ]
        group[roots[matrix[:, 0]]] = len(found)
        atom[roots[matrix[:, 0]]] = np.arange(len(atoms))
        found.append(_group(flow, members, roots[matrix[:, 0]], taken))
    return Atoms(tuple(found), flow, group, atom)


def _first(
    places: NDArray[np.int64], slots: list[Slot], atom: tuple[int, int]
) -> tuple[int, int, int]:
    """Sort key of a group: where its first producer stands."""
    members = places[atom[0] : atom[1]].tolist()
    return (*min(_rank(slots, place) for place in members), atom[0])


def _rank(slots: list[Slot], place: int) -> tuple[int, int]:
    """Producers first, then what follows, then what reads; each in the model's order."""
    slot = slots[place]
    return (0 if "produce" in slot.roles else 1 if slot.role == "follow" else 2, place)


def _group(flow: Flow, members: list[Member], roots: Labels, taken: dict[str, int]) -> Group:
    layer = members[0].tensor.rpartition(".")[0] or members[0].tensor
    taken[layer] = taken.get(layer, 0) + 1
    name = layer if taken[layer] == 1 else f"{layer}#{taken[layer]}"
    kind: Literal["channel", "head", "block"] = "channel"
    if flow.classes.marked(roots, HEAD).any():
        kind = "head"
    elif any(m.index.shape[1] > 1 for m in members if m.role == "produce"):
        kind = "block"
    normalised = bool(flow.classes.marked(roots, NORMALISED).any())
    return Group(name, kind, tuple(members), normalised, flow.multiple(roots))


def kept_whole(slots: list[Slot], parameters: set[str], flow: Flow) -> tuple[Frozen, ...]:
    """Dimensions of parameters of which some indices stay, with reasons; kernels are left out."""
    found: list[Frozen] = []
    for slot in slots:
        if slot.tensor not in parameters:
            continue
        found += [
            Frozen(slot.tensor, slot.dim, count, reason)
            for reason, count in flow.classes.reasons(slot.labels)
            if reason
        ]
    return tuple(found)
