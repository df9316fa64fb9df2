"""Which frame of a flame graph each event belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ds_inspector.analysis.hierarchy import parts_of
from ds_inspector.analysis.once import once
from ds_inspector.analysis.timing import of_owner, timing
from ds_inspector.forest import Ints, depths, levels, nearest
from ds_inspector.recording import Recording, Texts

UNMATCHED = "(unmatched)"
"""Time that no module, operator or source line accounts for."""

_PHASES = {"optimizer": "(optimizer)", "data": "(data)"}
_STEP = "ProfilerStep#"
_ROOT, _UNMATCHED = 0, 1
_SMALL = 1 << 22
"""Keys below it are counted in a table rather than sorted."""


@dataclass(frozen=True)
class Paths:
    """A tree of frames: frame 0 holds all, frame 1 what is unmatched; parents come before children.

    Texts and codes are of one value for each frame.
    """

    parent: Ints
    name: Texts
    module: Texts
    op: Texts
    source: Texts
    node: Ints
    events: Ints
    """Frame of each event."""


@once
def by_module(recording: Recording) -> Paths:
    """Modules within modules, and in each the operators that it calls itself."""
    events, owner = recording.events, timing(recording).owner
    modules = of_owner(events.texts("module"), owner)
    phases = of_owner(events.texts("phase"), owner)
    kinds, leaves = events.texts("kind"), _leaves(recording)
    # What the outermost module calls itself is of a module without a name.
    within = nearest(events.numbers("parent"), kinds.equal("module"))[owner] >= 0
    inside = Texts(within.astype("<u4"), ["", "inside"])
    found, places = distinct(modules, phases, leaves, inside)
    frames = _Frames()
    numbers = []
    for module, phase, leaf, within_model in found:
        name, op = modules.values[module], leaves.values[leaf]
        frame = _ROOT
        parts = parts_of(name)
        for depth, part in enumerate(parts):
            frame = frames.below(frame, part, module=".".join(parts[: depth + 1]))
        if not parts:
            other = "(model)" if within_model else UNMATCHED
            frame = frames.below(_ROOT, _PHASES.get(phases.values[phase], other))
        numbers.append(frames.below(frame, op, module=name, op=op) if op else frame)
    return frames.paths(recording, np.array(numbers, np.int64)[places])


@once
def by_source(recording: Recording) -> Paths:
    """Files, in them lines, and in each the operators that it calls."""
    events, owner = recording.events, timing(recording).owner
    sources, leaves = of_owner(events.texts("source"), owner), _leaves(recording)
    found, places = distinct(sources, leaves)
    frames = _Frames()
    numbers = []
    for source, leaf in found:
        place, op = sources.values[source], leaves.values[leaf]
        file, _, line = place.rpartition(":")
        frame = frames.below(_ROOT, file or place) if place else _UNMATCHED
        if file:
            frame = frames.below(frame, f"line {line}", source=place)
        numbers.append(frames.below(frame, op, source=place, op=op) if op else frame)
    return frames.paths(recording, np.array(numbers, np.int64)[places])


@once
def by_operator(recording: Recording) -> Paths:
    """Operators within the operators that call them, and kernels below what launched them."""
    events, owner = recording.events, timing(recording).owner
    names, kinds = events.texts("name"), events.texts("kind")
    codes, width = names.codes.astype(np.int64), len(names.values)
    kernel = kinds.equal("kernel")
    passed = kinds.equal("module") | kinds.equal("python")
    passed |= _where(names, lambda name: name.startswith(_STEP))
    inner = np.append(nearest(events.numbers("parent"), ~passed & ~kernel), -1)
    above = np.where(kernel, np.where(owner == np.arange(events.rows), -1, owner), -1)
    above = inner[np.where(kernel, above, events.numbers("parent"))]
    frame = np.full(events.rows + 1, _ROOT)
    parents, texts = [np.array([-1, _ROOT])], [np.array([width, width + 1])]
    made = 2
    # By their depth among frames: events of one frame may lie in modules of different depth.
    for rank in levels(depths(above)):
        rows = rank[~passed[rank]]
        found, places = numbered(frame[above[rows]] * width + codes[rows], made * width)
        parents.append(found // width)
        texts.append(found % width)
        frame[rows] = made + places
        made += len(found)
    frame[:-1] = np.where(passed, frame[inner[:-1]], frame[:-1])
    frame[frame == _ROOT] = _UNMATCHED
    name = np.concatenate(texts)
    op = Texts(np.where(name == width + 1, width, name), [*names.values, ""])
    return _with_common(
        recording,
        np.concatenate(parents),
        Texts(name, [*names.values, "", UNMATCHED]),
        {"op": op},
        frame[:-1],
    )


class _Frames:
    """Frames by their path of names, made as they are asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}
        self._parents = [-1]
        self._columns: dict[str, list[str]] = {
            name: [""] for name in ("name", "module", "op", "source")
        }
        self.below(_ROOT, UNMATCHED)

    def below(
        self, parent: int, name: str, *, module: str = "", op: str = "", source: str = ""
    ) -> int:
        number = self._known.setdefault((parent, name), len(self._parents))
        said = {"name": name, "module": module, "op": op, "source": source}
        if number == len(self._parents):
            self._parents.append(parent)
            for column, text in said.items():
                self._columns[column].append(text)
        else:
            for column, text in said.items():
                if self._columns[column][number] != text:
                    self._columns[column][number] = ""  # a module and an operator of one name
        return number

    def paths(self, recording: Recording, events: Ints) -> Paths:
        columns = {name: Texts.of(texts) for name, texts in self._columns.items()}
        name = columns.pop("name")
        return _with_common(recording, np.array(self._parents), name, columns, events)


def _with_common(
    recording: Recording, parent: Ints, name: Texts, known: dict[str, Texts], frames: Ints
) -> Paths:
    """Say of each frame also what all of its events have in common."""
    events, owner = recording.events, timing(recording).owner
    columns = {}
    for column in ("module", "op", "source"):
        own = known.get(column)
        if own is None or (column != "op" and not any(own.values)):
            own = common(of_owner(events.texts(column), owner), frames, len(parent))
        columns[column] = own
    nodes = events.numbers("node").astype(np.int64)
    nodes = np.where(nodes < 0, nodes[owner], nodes) if events.rows else nodes
    return Paths(
        parent=parent.astype(np.int64),
        name=name,
        **columns,
        node=shared(nodes + 1, frames, len(parent)) - 1,
        events=frames,
    )


def common(texts: Texts, groups: Ints, count: int) -> Texts:
    """Of each group of rows the text that they share, or none.

    Args:
        texts: One a row.
        groups: Number of each row's group, below `count`; negative ones are left out.
        count: How many groups there are.
    """
    return Texts(shared(texts.codes.astype(np.int64) + 1, groups, count), ["", *texts.values])


def shared(codes: Ints, groups: Ints, count: int) -> Ints:
    """Of each group the code that all of its rows have, or 0."""
    found = np.zeros(count, np.int64)
    if (groups < 0).any():
        codes, groups = codes[groups >= 0], groups[groups >= 0]
    found[groups] = codes
    found[groups[found[groups] != codes]] = 0
    return found


def _leaves(recording: Recording) -> Texts:
    """What each event is as a leaf: its operator's name, or nothing where there is none."""
    events, time = recording.events, timing(recording)
    names, kinds = events.texts("name"), events.texts("kind")
    plain = ~(kinds.equal("module") | kinds.equal("python") | kinds.equal("annotation"))
    own = (
        np.where(time.operator >= 0, names.codes[time.operator], names.codes)
        if events.rows
        else (names.codes)
    )
    none = len(names.values)
    return Texts(np.where(plain | (time.operator >= 0), own, none), [*names.values, ""])


def _where(texts: Texts, wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.array([wanted(text) for text in texts.values] or [False])[
        texts.codes
    ]
    return found


def distinct(*columns: Texts) -> tuple[list[tuple[int, ...]], Ints]:
    """The combinations of codes that occur, and which of them each row has."""
    sizes = [max(len(column.values), 1) for column in columns]
    keys = np.zeros(len(columns[0]), np.int64)
    for column, size in zip(columns, sizes, strict=True):
        keys = keys * size + column.codes
    found, places = numbered(keys, math.prod(sizes))
    codes = np.unravel_index(found, sizes) if len(found) else ()
    return list(zip(*(code.tolist() for code in codes), strict=True)), places


def numbered(keys: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct keys, all of which are below `size`, and the number of each row's."""
    if size > _SMALL:
        found, places = np.unique(keys, return_inverse=True)
        return found, places
    there = np.zeros(size, bool)
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[keys]
