"""Seconds and bytes of each node of the graph and of each group of nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ds_inspector.analysis.hierarchy import Hierarchy, hierarchy
from ds_inspector.analysis.once import once
from ds_inspector.analysis.timing import of_owner, timing
from ds_inspector.forest import Floats, Ints, nearest, sum_by
from ds_inspector.recording import Recording, Texts

SIZES = {
    **{"float64": 8, "int64": 8, "complex64": 8, "uint64": 8, "double": 8, "complex128": 16},
    **{"float32": 4, "int32": 4, "uint32": 4, "float": 4},
    **{"float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "half": 2},
    **{"int8": 1, "uint8": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e5m2": 1},
}
"""Bytes of an element, by dtype."""


@dataclass(frozen=True)
class Weights:
    """Values by node, and by group with all that is in it; NaN where nothing is known."""

    seconds: Floats
    bytes: Floats
    group_seconds: Floats
    group_bytes: Floats


@once
def weights(recording: Recording) -> Weights:
    """Seconds over all steps, and bytes that a step's tensors have, or else the outputs."""
    tree = hierarchy(recording)
    steps = max(recording.steps.rows, 1)
    time, events, tensors = timing(recording), recording.events, recording.tensors
    nodes = events.numbers("node").astype(np.int64)
    if events.rows:
        # What is nested in a node's event is the node's, too.
        inner = nearest(events.numbers("parent"), nodes >= 0)
        nodes = np.where(inner >= 0, nodes[inner], -1)[time.owner]
    modules = of_owner(events.texts("module"), time.owner)
    seconds, group_seconds = _shared_out(tree, nodes, modules, time.own)
    in_step = tensors.numbers("bytes") / np.where(tensors.numbers("step") >= 0, steps, 1)
    made, group_bytes = _shared_out(
        tree, tensors.numbers("node").astype(np.int64), tensors.texts("module"), in_step
    )
    if not any(tensors.texts("op").values):  # a file has weights at most
        made = _outputs(recording)
        known = np.nan_to_num(made)
        group_bytes = _within(tree, sum_by(tree.of_node, known, len(tree.paths)))
        group_bytes[group_bytes == 0] = np.nan
    return Weights(seconds, made, group_seconds, group_bytes)


def _shared_out(
    tree: Hierarchy, nodes: Ints, modules: Texts, values: Floats
) -> tuple[Floats, Floats]:
    """Values by node, and by group through the node, or else through the module's name."""
    count = len(tree.of_node)
    if not len(values):
        return np.full(count, np.nan), np.full(len(tree.paths), np.nan)
    known = nodes >= 0
    by_node = sum_by(nodes[known], values[known], count)
    named = np.array([_group(tree, name) for name in modules.values], np.int64)[modules.codes]
    groups = np.where(known, tree.of_node[nodes] if count else 0, named)
    there = groups >= 0
    by_group = sum_by(groups[there], values[there], len(tree.paths))
    seen = np.bincount(nodes[known], minlength=count) > 0
    return np.where(seen, by_node, np.nan), _within(tree, by_group)


def _group(tree: Hierarchy, module: str) -> int:
    """The innermost group that a module is in; -1 for no module."""
    while module:
        if module in tree.numbers:
            return tree.numbers[module]
        module = module.rpartition(".")[0]
    return -1


def _within(tree: Hierarchy, values: Floats) -> Floats:
    sums = np.append(0.0, np.cumsum(values))
    found: Floats = sums[tree.ends] - sums[:-1]
    return found


def _outputs(recording: Recording) -> Floats:
    """Bytes of the first output of each node, where its shape says so."""
    shapes, dtypes = recording.nodes.texts("shape"), recording.nodes.texts("dtype")
    elements = np.array([elements_of(shape) for shape in shapes.values] or [np.nan])
    sizes = np.array([SIZES.get(dtype.lower(), np.nan) for dtype in dtypes.values] or [np.nan])
    found: Floats = elements[shapes.codes] * sizes[dtypes.codes]
    return found


def elements_of(shape: str) -> float:
    """How many elements a shape as `4x3x8x8` has; NaN where it is not known in full."""
    if not re.fullmatch(r"\d+(x\d+)*", shape):
        return float("nan")
    return float(np.prod([float(size) for size in shape.split("x")]))
