"""The flame graph: a share of time for each path of modules, operators or source lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ds_core.errors import RefusedError
from ds_inspector.analysis.paths import Paths, by_module, by_operator, by_source, shared
from ds_inspector.analysis.timing import of_owner, timing
from ds_inspector.forest import Floats, Ints, depths, levels, sum_by, summed
from ds_inspector.recording import Recording, Texts

MOST = 20_000
"""Frames that are returned."""

_WAYS = {"module": by_module, "operator": by_operator, "source": by_source}


def flame(
    recording: Recording,
    by: str = "module",
    phase: str = "all",
    step: int | None = None,
    inverted: bool = False,
    against: Recording | None = None,
) -> dict[str, Any]:
    """Frames of a flame graph, in depth-first order, the widest first among siblings.

    Frames of the same path are one. The selves of all frames and `omitted` add up to `total`.
    `change` is seconds more than in `against` for as many steps.

    Args:
        recording: What is shown.
        by: `module`, `operator` or `source`.
        phase: `forward`, `backward`, `optimizer`, or `all`.
        step: One of the recording's; None is all.
        inverted: Leaves first, and below them what called them.
        against: What frames are compared with.

    Raises:
        RefusedError: It has no such view, or no such step.
    """
    if by not in _WAYS:
        raise RefusedError(f"There is no flame graph by {by}.", mend=f"One of {', '.join(_WAYS)}.")
    if step is not None and not 0 <= step < recording.steps.rows:
        raise RefusedError(f"There is no step {step} among {recording.steps.rows}.")
    tree = _tree(recording, by, phase, step, inverted)
    change = np.zeros(0)
    if against is not None:
        alike = step is not None and step < against.steps.rows
        other = _tree(against, by, phase, step if alike else None, inverted)
        steps = [1 if step is not None else max(recording.steps.rows, 1)]
        steps.append(1 if alike else max(against.steps.rows, 1))
        change = tree.value - _matched(tree, other) * (steps[0] / steps[1])
    return _packed(tree, change)


@dataclass(frozen=True)
class _Tree:
    """Frames as `Paths`, and their seconds; the first is the whole."""

    parent: Ints
    name: Texts
    attributes: dict[str, Texts]
    node: Ints
    own: Floats
    value: Floats
    ranks: list[Ints]


def _tree(recording: Recording, by: str, phase: str, step: int | None, inverted: bool) -> _Tree:
    paths, time = _WAYS[by](recording), timing(recording)
    own = time.own
    if phase != "all":
        own = own * of_owner(recording.events.texts("phase"), time.owner).equal(phase)
    if step is not None:
        own = own * (time.step == step)
    frames = sum_by(paths.events, own, len(paths.parent))
    if phase == "all":
        frames[1] += time.gaps.sum() if step is None else time.gaps[step]
    if inverted:
        return _inverted(paths, frames)
    attributes = {"module": paths.module, "op": paths.op, "source": paths.source}
    return _grown(paths.parent, paths.name, attributes, paths.node, frames)


def _grown(
    parent: Ints, name: Texts, attributes: dict[str, Texts], node: Ints, own: Floats
) -> _Tree:
    ranks = levels(depths(parent))
    return _Tree(parent, name, attributes, node, own, summed(parent, own, ranks), ranks)


def _inverted(paths: Paths, own: Floats) -> _Tree:
    """The same time with each path read from its end."""
    leaf = np.flatnonzero(own > 0)
    leaf = leaf[leaf > 0]
    width = len(paths.name.values)
    here, place = leaf, np.zeros(len(leaf), np.int64)
    parents, origins, owns = [np.array([-1])], [np.array([0])], [np.zeros(1)]
    columns: dict[str, list[Ints]] = {"module": [], "source": [], "op": [], "node": []}
    made = 1
    while len(here):
        keys = place * width + paths.name.codes[here]
        found, first, places = np.unique(keys, return_index=True, return_inverse=True)
        parents.append(found // width)
        origins.append(here[first])
        count = len(found)
        for column, frame in (("module", here), ("source", here), ("op", leaf)):
            codes = getattr(paths, column).codes[frame].astype(np.int64) + 1
            columns[column].append(shared(codes, places, count))
        columns["node"].append(shared(paths.node[leaf] + 1, places, count) - 1)
        above = paths.parent[here]
        ends = above <= 0
        owns.append(sum_by(places[ends], own[leaf[ends]], count))
        place, here, leaf = (made + places)[~ends], above[~ends], leaf[~ends]
        made += count
    name = Texts(paths.name.codes[np.concatenate(origins)], paths.name.values)
    attributes = {
        column: Texts(np.concatenate([[0], *columns[column]]), ["", *getattr(paths, column).values])
        for column in ("module", "op", "source")
    }
    node = np.concatenate([[-1], *columns["node"]]).astype(np.int64)
    return _grown(np.concatenate(parents), name, attributes, node, np.concatenate(owns))


def _matched(tree: _Tree, other: _Tree) -> Floats:
    """Seconds of each frame in another tree, found by its path of names."""
    known = {name: code for code, name in enumerate(tree.name.values)}
    width = len(known) + 1
    renamed = np.array([known.get(name, -1) for name in other.name.values], np.int64)
    # Names may be listed twice: all frames of one name have its last number here.
    own = np.array([known[name] for name in tree.name.values], np.int64)[tree.name.codes]
    keys = tree.parent * width + own
    order = np.argsort(keys, kind="stable")
    match = np.full(len(other.parent), -1)
    match[0] = 0
    for rank in other.ranks[1:]:
        up, code = match[other.parent[rank]], renamed[other.name.codes[rank]]
        wanted = up * width + code
        place = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
        found = order[place]
        match[rank] = np.where((up >= 0) & (code >= 0) & (keys[found] == wanted), found, -1)
    there = match >= 0
    return sum_by(match[there], other.value[there], len(tree.parent))


def _packed(tree: _Tree, change: Floats) -> dict[str, Any]:
    kept = tree.value > 0
    kept[0] = True
    if kept.sum() > MOST + 1:  # a parent is never less than its child: none is kept without its own
        least = np.partition(tree.value, -(MOST + 1))[-(MOST + 1)]
        kept = tree.value > least
        kept[0] = True
    start, position, depth = _laid_out(tree, kept)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(position[rows])][1:]
    names: dict[str, int] = {"": 0}

    def numbered(texts: Texts) -> list[int]:
        return [names.setdefault(text, len(names)) for text in texts.take(rows)]

    frames: dict[str, Any] = {
        "name": numbered(tree.name),
        "depth": depth[rows] - 1,
        "start": start[rows],
        "value": tree.value[rows],
        "self": tree.own[rows],
        "change": change[rows] if len(change) else [],
        **{column: numbered(texts) for column, texts in tree.attributes.items()},
        "node": [node if node >= 0 else None for node in tree.node[rows].tolist()],
    }
    total = float(tree.value[0])
    return {
        "total": total,
        "names": list(names),
        "frames": frames,
        "omitted": max(0.0, total - float(tree.own[rows].sum())),
    }


def _laid_out(tree: _Tree, kept: Any) -> tuple[Floats, Ints, Ints]:
    """Start in seconds, place in depth-first order, and depth of each frame that is kept."""
    rows = len(tree.parent)
    inside = summed(tree.parent, kept.astype(np.float64), tree.ranks).astype(np.int64)
    start, position = np.zeros(rows), np.zeros(rows, np.int64)
    depth = np.zeros(rows, np.int64)
    for level, rank in enumerate(tree.ranks):
        depth[rank] = level
        if level == 0:
            continue
        rank = rank[kept[rank]]
        rank = rank[np.lexsort((rank, -tree.value[rank], tree.parent[rank]))]
        up = tree.parent[rank]
        first = np.append(True, up[1:] != up[:-1]) if len(up) else np.zeros(0, bool)
        begins = np.flatnonzero(first)
        family = np.cumsum(first) - 1
        for values, target, offset in (
            (tree.value, start, 0),
            (inside, position, 1),
        ):
            before = np.append(0, np.cumsum(values[rank])[:-1]) if len(rank) else values[rank]
            before = before - before[begins][family] if len(rank) else before
            target[rank] = target[up] + before + offset
    return start, position, depth
