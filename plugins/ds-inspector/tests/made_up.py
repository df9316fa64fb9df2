"""A recording of a small encoder's training, made up: every view has something to show."""

from __future__ import annotations

import numpy as np
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About, Collector

LAYERS = 3
HOSTILE = "<img src=x onerror=alert(1)>"
SOURCE = "/home/you/job/model.py"

_OPERATORS = [  # module below the layer, operator, line, milliseconds, KiB
    ("attention.query", "aten::addmm", 21, 1.0, 512),
    ("attention.key", "aten::addmm", 22, 1.0, 512),
    ("attention.value", "aten::addmm", 23, 1.1, 512),
    ("attention", "aten::scaled_dot_product_attention", 27, 2.5, 1024),
    ("feed.up", "aten::addmm", 31, 4.0, 2048),
    ("feed", "aten::gelu", 32, 1.5, 2048),
    ("feed.down", "aten::addmm", 33, 3.5, 512),
    ("norm", "aten::layer_norm", 35, 0.6, 512),
]


def example(slow: float = 1.0, steps: int = 3) -> Recording:
    """A recording; `slow` multiplies the time of `gelu`."""
    nodes = _nodes()
    events, spans = _events(slow, steps)
    return Recording(
        About(
            title="train.py",
            origin="torch",
            created="2026-01-02T03:04:05Z",
            command="ds inspect train.py --steps 3",
            machine={"processor": "made up", "torch": "2.13.0", "threads": "2"},
            collectors=[Collector(name="time", overhead=1.04), Collector(name="lifetimes")],
            peaks={"cpu": {"float32": 1e11, "bandwidth": 1e10}},
        ),
        {
            "nodes": nodes,
            "edges": Table(
                "edges",
                {
                    "source": list(range(nodes.rows - 1)),
                    "target": list(range(1, nodes.rows)),
                    "label": [f"value_{row}" for row in range(nodes.rows - 1)],
                    "shape": ["8x64x128"] * (nodes.rows - 1),
                },
            ),
            "events": events,
            "steps": Table("steps", {"start": spans[:, 0], "end": spans[:, 1]}),
            "tensors": _tensors(spans),
        },
    )


def _layers() -> list[tuple[str, str, int, float, int]]:
    rows = [("embedding", "aten::embedding", 12, 0.8, 512)]
    for layer in range(LAYERS):
        rows += [(f"encoder.layer.{layer}.{module}", *rest) for module, *rest in _OPERATORS]
    return [*rows, ("head", "aten::addmm", 50, 1.2, 64), (HOSTILE, "aten::relu", 51, 0.2, 64)]


def _nodes() -> Table:
    rows = _layers()
    return Table(
        "nodes",
        {
            "name": [f"{op.removeprefix('aten::')}_{row}" for row, (_, op, *_) in enumerate(rows)],
            "op": [row[1] for row in rows],
            "module": [row[0] for row in rows],
            "shape": ["8x64x128"] * len(rows),
            "dtype": ["bfloat16" if row[1] == "aten::addmm" else "float32" for row in rows],
            "source": [f"{SOURCE}:{row[2]}" for row in rows],
            "attributes": ['{"bias": true}' if row[1] == "aten::addmm" else "" for row in rows],
        },
    )


def _events(slow: float, steps: int) -> tuple[Table, np.ndarray]:
    made: list[dict[str, object]] = []
    spans = np.zeros((steps, 2))
    now = 0.0
    rows = list(enumerate(_layers()))
    for step in range(steps):
        spans[step, 0] = now
        for phase, order, factor in (("forward", rows, 1.0), ("backward", rows[::-1], 2.0)):
            for node, (module, op, line, milliseconds, kib) in order:
                took = milliseconds / 1000 * factor * (1 + 0.02 * step)
                took *= slow if op == "aten::gelu" else 1
                made.append(
                    {
                        "start": now,
                        "duration": took,
                        "name": op,
                        "kind": "operator",
                        "lane": "cpu 1",
                        "phase": phase,
                        "step": step,
                        "module": module,
                        "source": f"{SOURCE}:{line}",
                        "node": node,
                        "flops": 2e7 * milliseconds if op == "aten::addmm" else np.nan,
                        "bytes": kib * 1024.0,
                        "shapes": "512x128, 128x128",
                        "dtype": "float32",
                    }
                )
                now += took + 2e-5
        for _ in range(6):
            made.append(
                {
                    "start": now,
                    "duration": 0.001,
                    "name": "aten::_foreach_add_",
                    "kind": "operator",
                    "lane": "cpu 1",
                    "phase": "optimizer",
                    "step": step,
                }
            )
            now += 0.0011
        spans[step, 1] = now
        now += 0.0005
    columns = {name: [row.get(name, _BLANK.get(name)) for row in made] for name in made[0]}
    return Table("events", columns), spans


_BLANK = {
    **dict.fromkeys(("module", "source", "shapes", "dtype"), ""),
    "node": -1,
    "flops": np.nan,
    "bytes": np.nan,
}


def _tensors(spans: np.ndarray) -> Table:
    made: list[tuple[object, ...]] = []
    rows = _layers()
    for node, (module, op, line, _, kib) in enumerate(rows):
        if op == "aten::addmm":
            made.append((0.0, np.inf, 65536, "", "parameter", f"{module}.weight", module, -1, line))
            made.append((0.0, np.inf, 131072, "", "optimizer", "", module, -1, line))
        for start, end in spans:
            width = (end - start) / (2 * len(rows) + 4)
            born, died = start + node * width, end - (node + 2) * width
            made.append((born, died, kib * 1024, op, "activation", "", module, node, line))
    names = ("born", "died", "bytes", "op", "kind", "name", "module", "node", "source")
    columns = {name: [row[index] for row in made] for index, name in enumerate(names)}
    columns["source"] = [f"{SOURCE}:{line}" for line in columns["source"]]
    columns["shape"] = ["8x64x128"] * len(made)
    columns["dtype"] = ["float32"] * len(made)
    columns["phase"] = ["forward"] * len(made)
    return Table("tensors", columns)
