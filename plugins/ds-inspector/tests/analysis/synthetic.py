"""Recordings made up by hypothesis: nested events on several lanes, kernels, graphs and tensors.

Times are whole numbers of seconds, so that sums are exact.
"""

from __future__ import annotations

import numpy as np
from ds_inspector.recording import Recording, Table, Texts
from ds_inspector.recording.recording import About
from hypothesis import strategies as st

MODULES = ("", "a", "a.b", "a.b.0", "a.c", "d", "d.0.e")
NAMES = ("aten::mm", "aten::add", "aten::linear", "aten::item", "a", "Optimizer.step#SGD.step")
SOURCES = ("", "train.py:3", "train.py:9", "net.py:3", "odd")
PHASES = ("forward", "backward", "optimizer", "data", "other")
KINDS = ("operator", "operator", "operator", "module", "python", "annotation")


@st.composite
def nested(draw, begin, end, depth=0):
    """Events within a stretch of time: (start, duration, children)."""
    found = []
    at = begin
    while at < end and len(found) < 4 and draw(st.booleans()):
        start = draw(st.integers(at, end - 1))
        stop = draw(st.integers(start + 1, end))
        inner = draw(nested(start, stop, depth + 1)) if depth < 4 else []
        found.append((start, stop - start, inner))
        at = stop
    return found


@st.composite
def event_rows(draw, kernels=True):
    """Rows of the table of events, in its order."""
    rows = []
    nodes = draw(st.integers(0, 6))
    steps = draw(st.integers(0, 3))

    def text(values):
        return draw(st.sampled_from(values))

    def add(parent, lane, events, kind=None):
        for start, duration, inner in events:
            number = len(rows)
            rows.append(
                {
                    "start": start,
                    "duration": duration,
                    "parent": parent,
                    "name": text(NAMES),
                    "kind": kind or text(KINDS),
                    "lane": lane,
                    "phase": text(PHASES),
                    "step": draw(st.integers(-1, steps - 1)),
                    "module": text(MODULES),
                    "source": text(SOURCES),
                    "node": draw(st.integers(-1, nodes - 1)),
                    "cause": -1,
                }
            )
            add(number, lane, inner, kind)

    for lane in range(draw(st.integers(0, 2))):
        add(-1, f"cpu {lane}", draw(nested(0, 40)))
    host = len(rows)
    if kernels and host and draw(st.booleans()):
        add(-1, "cuda:0 stream 7", draw(nested(0, 40, depth=4)), "kernel")
        for row in rows[host:]:
            row["cause"] = draw(st.integers(-1, host - 1))
            row["module"] = row["source"] = ""
            row["node"] = row["step"] = -1
    return rows, nodes, steps


def columns(rows):
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


@st.composite
def recordings(draw, kernels=True):
    """Recordings with time in them."""
    rows, nodes, steps = draw(event_rows(kernels))
    bounds = sorted(draw(st.lists(st.integers(0, 50), min_size=2 * steps, max_size=2 * steps)))
    return Recording(
        About(title="made up", origin="torch"),
        {
            "events": Table("events", columns(rows)),
            "nodes": Table("nodes", {"name": [f"n{row}" for row in range(nodes)]}),
            "steps": Table("steps", {"start": bounds[::2], "end": bounds[1::2]}),
        },
    )


@st.composite
def lives(draw):
    """Recordings of tensors."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 30),
                st.integers(1, 30) | st.none(),
                st.integers(0, 100),
                st.sampled_from(["parameter", "activation", "temporary", "odd"]),
            ),
            max_size=40,
        )
    )
    table = {
        "born": [float(born) for born, _, _, _ in rows],
        "died": [float("inf") if age is None else born + age for born, age, _, _ in rows],
        "bytes": [size for _, _, size, _ in rows],
        "kind": [kind for _, _, _, kind in rows],
    }
    steps = {"start": [0.0, 20.0], "end": [15.0, 45.0]} if draw(st.booleans()) else {}
    tables = {"tensors": Table("tensors", table), "steps": Table("steps", steps)}
    return Recording(About(title="made up", origin="torch"), tables)


@st.composite
def graphs(draw):
    """Recordings of a graph, whose edges go anywhere."""
    modules = draw(
        st.lists(
            st.sampled_from([*MODULES, ".a", "a..b", "<b>x</b>", "a#0-3"]), min_size=0, max_size=30
        )
    )
    count = len(modules)
    ends = st.integers(0, count - 1) if count else st.nothing()
    pairs = draw(st.lists(st.tuples(ends, ends), max_size=60)) if count else []
    return graph_of(modules, pairs)


def graph_of(modules, pairs, **more):
    count = len(modules)
    return Recording(
        About(title="made up", origin="onnx"),
        {
            "nodes": Table(
                "nodes",
                {
                    "name": [f"node{row}" for row in range(count)],
                    "op": [f"Op{row % 3}" for row in range(count)],
                    "module": modules,
                    "dtype": ["float32"] * count,
                    **more,
                },
            ),
            "edges": Table(
                "edges",
                {
                    "source": np.array([pair[0] for pair in pairs], int),
                    "target": np.array([pair[1] for pair in pairs], int),
                    "shape": Texts.of(["2x2"] * len(pairs)),
                },
            ),
        },
    )


def steps_of(seconds, operators):
    """A recording of steps that each call the same operators.

    Args:
        seconds: How long each step takes; operators share it.
        operators: (name, module, share of a step).
    """
    rows, at = [], 0.0
    starts = []
    for step, length in enumerate(seconds):
        starts.append(at)
        for name, module, share in operators:
            rows.append(
                {
                    "start": at,
                    "duration": length * share,
                    "parent": -1,
                    "name": name,
                    "kind": "operator",
                    "lane": "cpu 1",
                    "phase": "forward",
                    "step": step,
                    "module": module,
                }
            )
            at += length * share
        at = starts[-1] + length
    ends = [start + length for start, length in zip(starts, seconds, strict=True)]
    return Recording(
        About(title="made up", origin="torch"),
        {
            "events": Table("events", columns(rows)),
            "steps": Table("steps", {"start": starts, "end": ends}),
        },
    )
