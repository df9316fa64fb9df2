"""The graph, one group at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ds_inspector.analysis.hierarchy import Hierarchy, View, hierarchy, shown_in, view
from ds_inspector.analysis.weights import weights
from ds_inspector.forest import Ints
from ds_inspector.recording import Recording

_HITS = 200
"""Of a search, that are returned."""
_ENDS = 40
"""Values from or to other groups that are shown one by one."""


def graph(
    recording: Recording, group: str = "", against: Recording | None = None
) -> dict[str, Any]:
    """A group's nodes, the groups in it, and the values that pass between them.

    Args:
        recording: Whose graph.
        group: Path of a group, "" for the outermost, or of a part of a big one (`PATH#0-399`).
        against: What seconds are compared with: `change` is their ratio, for as many steps.

    Raises:
        UnknownNameError: There is no such group.
    """
    tree = hierarchy(recording)
    shown = view(tree, group)
    place = _placed(tree, shown, len(tree.of_node))
    items = [_item(recording, tree, path, children) for path, children in shown.items]
    if against is not None:
        _compare(recording, against, items)
    identities = [item["id"] for item in items]
    edges, inputs, outputs = _edges(recording, tree, place, identities)
    return {
        "group": group,
        "nodes": items,
        "edges": edges,
        "inputs": inputs,
        "outputs": outputs,
        "truncated": 0,
    }


def search(recording: Recording, q: str) -> dict[str, Any]:
    """Nodes whose name, operator or module has `q` in it, in the graph's order.

    `node:12` finds the node of that row, and `module:encoder.layer` a group.
    """
    tree, nodes = hierarchy(recording), recording.nodes
    kind, _, wanted = q.partition(":")
    if kind == "module" and wanted in tree.numbers:
        above = tree.paths[max(int(tree.parents[tree.numbers[wanted]]), 0)]
        label = wanted.rpartition(".")[2] or recording.about.title
        group = {"node": None, "label": label, "op": "", "module": wanted, "group": wanted}
        return {"hits": [{**group, "above": above}], "total": 1}
    if kind == "node" and wanted.isascii() and wanted.isdigit():
        rows = np.array([int(wanted)] if int(wanted[:10]) < nodes.rows else [], np.int64)
    else:
        text = q.casefold()
        found = np.zeros(nodes.rows, bool)
        for column in ("name", "op", "module"):
            texts = nodes.texts(column)
            there = np.array([text in value.casefold() for value in texts.values] or [False])
            found |= there[texts.codes]
        rows = np.flatnonzero(found) if text else np.zeros(0, np.int64)
    columns = {column: nodes.texts(column) for column in ("name", "op", "module")}
    hits = [
        {
            "node": row,
            "label": columns["name"][row] or columns["op"][row],
            "op": columns["op"][row],
            "module": columns["module"][row],
            "group": shown_in(tree, row),
        }
        for row in rows[:_HITS].tolist()
    ]
    return {"hits": hits, "total": len(rows)}


def _placed(tree: Hierarchy, shown: View, rows: int) -> Ints:
    """Of each node the number of the item that shows it, or -1."""
    place = np.full(rows, -1)
    for number, (_, children) in enumerate(shown.items):
        place[children[children >= 0]] = number
        for child in children[children < 0].tolist():
            place[tree.within(-1 - child)] = number
    return place


def _item(recording: Recording, tree: Hierarchy, path: str, children: Ints) -> dict[str, Any]:
    if not path:
        return _node(recording, int(children[0]))
    known, nodes = weights(recording), recording.nodes
    groups, own = -1 - children[children < 0], children[children >= 0]
    seconds = np.concatenate([known.group_seconds[groups], known.seconds[own]])
    size = np.concatenate([known.group_bytes[groups], known.bytes[own]])
    inside = np.concatenate([own, *[tree.within(group) for group in groups.tolist()]])
    dtypes = nodes.texts("dtype")
    kinds = {dtypes.values[code] for code in np.unique(dtypes.codes[inside]).tolist()} - {""}
    part = "#" in path and path not in tree.numbers
    return {
        "id": f"g:{path}",
        "label": path.rpartition("#")[2] if part else path.rpartition(".")[2],
        "op": "",
        "module": path.rpartition("#")[0] if part else path,
        "source": "",
        "node": None,
        "count": len(inside),
        "seconds": _sum(seconds),
        "bytes": _sum(size),
        "dtype": kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "",
        "shape": "",
        "attributes": {},
        "change": None,
    }


def _node(recording: Recording, row: int) -> dict[str, Any]:
    known, nodes = weights(recording), recording.nodes
    text = {column: nodes.texts(column)[row] for column in nodes}
    return {
        "id": f"n:{row}",
        "label": text["name"] or text["op"],
        "op": text["op"],
        "module": text["module"],
        "source": text["source"],
        "node": row,
        "count": 1,
        "seconds": _sum(known.seconds[row : row + 1]),
        "bytes": _sum(known.bytes[row : row + 1]),
        "dtype": text["dtype"],
        "shape": text["shape"],
        "attributes": _attributes(text["attributes"]),
        "change": None,
    }


def _attributes(text: str) -> dict[str, Any]:
    try:
        found = orjson.loads(text or "{}")
    except ValueError:
        return {"attributes": text}
    return found if isinstance(found, dict) else {"attributes": found}


def _sum(values: Any) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else None


def _edges(
    recording: Recording, tree: Hierarchy, place: Ints, identities: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    table = recording.edges
    source, target = table.numbers("source"), table.numbers("target")
    known = (source >= 0) & (target >= 0)
    begin = np.where(known, np.append(place, -1)[source], -1)
    end = np.where(known, np.append(place, -1)[target], -1)
    shapes = table.texts("shape")
    between = np.flatnonzero((begin >= 0) & (end >= 0) & (begin != end))
    edges = _merged(begin[between], end[between], shapes.take(between), identities, identities)
    ends = []
    for mine, other, rows in (
        (end, source, np.flatnonzero((end >= 0) & (begin < 0) & known)),
        (begin, target, np.flatnonzero((begin >= 0) & (end < 0) & known)),
    ):
        kind = "in" if mine is end else "out"
        outside, number = np.unique(other[rows], return_inverse=True)
        number = np.minimum(number, _ENDS)
        points = [_outside(recording, kind, row) for row in outside[:_ENDS].tolist()]
        if len(outside) > _ENDS:
            points.append({"id": f"{kind}:more", "label": f"{len(outside) - _ENDS} more"})
        names = [point["id"] for point in points]
        taken = shapes.take(rows)
        if kind == "in":
            edges += _merged(number, mine[rows], taken, names, identities)
        else:
            edges += _merged(mine[rows], number, taken, identities, names)
        ends.append(points)
    return edges, ends[0], ends[1]


def _outside(recording: Recording, kind: str, row: int) -> dict[str, Any]:
    name, module = recording.nodes.texts("name")[row], recording.nodes.texts("module")[row]
    label = name or recording.nodes.texts("op")[row]
    return {"id": f"{kind}:{row}", "label": label, "module": module, "node": row}


def _merged(
    begin: Ints, end: Ints, shapes: Any, sources: list[str], targets: list[str]
) -> list[dict[str, Any]]:
    """One edge for each pair of items, with how many values it stands for."""
    width = len(targets) + 1
    keys, first, count = np.unique(begin * width + end, return_index=True, return_counts=True)
    return [
        {
            "from": sources[key // width],
            "to": targets[key % width],
            "count": times,
            "label": shapes[row] if times == 1 else f"{times} values",
        }
        for key, row, times in zip(keys.tolist(), first.tolist(), count.tolist(), strict=True)
    ]


def _compare(recording: Recording, against: Recording, items: list[dict[str, Any]]) -> None:
    other, known = hierarchy(against), weights(against)
    scale = max(recording.steps.rows, 1) / max(against.steps.rows, 1)
    names, modules = against.nodes.texts("name"), against.nodes.texts("module")
    rows = {
        (module, name): row for row, (module, name) in enumerate(zip(modules, names, strict=True))
    }
    for item in items:
        before = np.nan
        if item["node"] is None:
            if item["id"] == f"g:{item['module']}" and item["module"] in other.numbers:
                before = known.group_seconds[other.numbers[item["module"]]]
        else:
            name = recording.nodes.texts("name")[item["node"]]
            row = rows.get((item["module"], name), -1)
            before = known.seconds[row] if row >= 0 else np.nan
        if item["seconds"] is not None and before > 0:
            item["change"] = item["seconds"] / (float(before) * scale)
