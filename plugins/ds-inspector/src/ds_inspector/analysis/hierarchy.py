"""Groups of a graph's nodes: modules within modules, big ones split by number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ds_core.errors import UnknownNameError
from ds_inspector.analysis.once import once
from ds_inspector.forest import Ints
from ds_inspector.recording import Recording

MOST = 400
"""Children that are shown of a group at once."""

_DEEPEST = 63
"""Dots at which a path is split: the paths of all groups are longer than all names by so much."""
_PART = re.compile(r"(.*)#(\d{1,9})-(\d{1,9})", re.DOTALL)


@dataclass(frozen=True)
class Hierarchy:
    """Groups in depth-first order: those within group g are g up to `ends[g]`; 0 is the root."""

    paths: list[str]
    parents: Ints
    ends: Ints
    numbers: dict[str, int]
    of_node: Ints
    """Group of each node."""
    by_group: Ints
    """Nodes in order of their group, and in the graph's order within it."""
    starts: Ints
    """Where in `by_group` each group's own nodes begin, and where the last one's end."""
    first: Ints
    """First node within each group, by which groups are ordered."""

    def children(self, group: int) -> Ints:
        """Items directly in a group, in the graph's order: nodes, or groups as `-1 - number`."""
        nodes = self.by_group[self.starts[group] : self.starts[group + 1]]
        inner = []
        number = group + 1
        while number < self.ends[group]:
            inner.append(number)
            number = int(self.ends[number])
        groups = np.array(inner, np.int64)
        items = np.concatenate([nodes, -1 - groups])
        return items[np.argsort(np.concatenate([nodes, self.first[groups]]), kind="stable")]

    def within(self, group: int) -> Ints:
        """All nodes in a group and in those within it."""
        return self.by_group[self.starts[group] : self.starts[int(self.ends[group])]]


@dataclass(frozen=True)
class View:
    """A group as it is shown."""

    path: str
    group: int
    items: list[tuple[str, Ints]]
    """What is in it: nodes as `("", [row])`, groups and parts by path with their children."""


@once
def hierarchy(recording: Recording) -> Hierarchy:
    """Groups by the nodes' module paths."""
    modules = recording.nodes.texts("module")
    rows = len(modules)
    used, place = np.unique(modules.codes, return_index=True)
    tree: dict[str, dict[str, object]] = {}
    for code in used[np.argsort(place)].tolist():
        below = tree
        for part in parts_of(modules.values[code]):
            below = below.setdefault(part, {})  # type: ignore[assignment]
    paths, parents, ends = [""], [-1], [0]
    stack: list[tuple[int, Iterator[tuple[str, object]]]] = [(0, iter(tree.items()))]
    while stack:
        number, rest = stack[-1]
        found = next(rest, None)
        if found is None:
            ends[number] = len(paths)
            stack.pop()
            continue
        part, below = found  # type: ignore[assignment]
        stack.append((len(paths), iter(below.items())))
        paths.append(f"{paths[number]}.{part}" if number else part)
        parents.append(number)
        ends.append(0)
    numbers = {path: number for number, path in enumerate(paths)}
    known = [numbers.get(".".join(parts_of(name)), 0) for name in modules.values]
    table = np.array(known or [0], np.int64)
    of_node = table[modules.codes]
    by_group = np.argsort(of_node, kind="stable")
    starts = np.searchsorted(of_node[by_group], np.arange(len(paths) + 1))
    bound = np.array(ends, np.int64)
    least = np.append(by_group, rows)[starts[:-1]]
    least[starts[:-1] == starts[1:]] = rows
    for number in range(len(paths) - 1, 0, -1):
        least[parents[number]] = min(least[parents[number]], least[number])
    return Hierarchy(paths, np.array(parents), bound, numbers, of_node, by_group, starts, least)


def parts_of(module: str) -> list[str]:
    """The names in a module's path; what lies deeper than all views can show is one of them."""
    return [part for part in module.split(".", _DEEPEST) if part]


def view(tree: Hierarchy, path: str) -> View:
    """What is in a group, or in one of the parts that a big one is shown in.

    Raises:
        UnknownNameError: There is no such group.
    """
    group, begin, end = _located(tree, path)
    children = tree.children(group)
    if end < 0:
        end = len(children) - 1
    if not begin <= end < len(children) and len(children):
        raise UnknownNameError(f"There is no group {path[:80]!r}.")
    name = tree.paths[group]
    size = _part_size(end - begin + 1)
    items: list[tuple[str, Ints]] = []
    if size == 1:
        for item in children[begin : end + 1].tolist():
            inner = tree.paths[-1 - item] if item < 0 else ""
            items.append((inner, np.array([item])))
    else:
        for low in range(begin, end + 1, size):
            high = min(low + size - 1, end)
            items.append((f"{name}#{low}-{high}", children[low : high + 1]))
    return View(path, group, items)


def shown_in(tree: Hierarchy, node: int) -> str:
    """The innermost group or part in which a node is shown itself."""
    group = int(tree.of_node[node])
    children = tree.children(group)
    place = int(np.flatnonzero(children == node)[0])
    begin, end, path = 0, len(children) - 1, tree.paths[group]
    while (size := _part_size(end - begin + 1)) > 1:
        begin += (place - begin) // size * size
        end = min(begin + size - 1, end)
        path = f"{tree.paths[group]}#{begin}-{end}"
    return path


def _part_size(count: int) -> int:
    size = 1
    while count > MOST * size:
        size *= MOST
    return size


def _located(tree: Hierarchy, path: str) -> tuple[int, int, int]:
    """A path's group, and the first and last of its children; the last is -1 for all."""
    if path in tree.numbers:
        return tree.numbers[path], 0, -1
    part = _PART.fullmatch(path)
    if part is None or part[1] not in tree.numbers or int(part[2]) > int(part[3]):
        raise UnknownNameError(f"There is no group {path[:80]!r}.")
    return tree.numbers[part[1]], int(part[2]), int(part[3])
