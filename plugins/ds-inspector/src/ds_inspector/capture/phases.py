"""Which part of a step an event belongs to."""

from __future__ import annotations

import numpy as np

from ds_inspector.capture.kineto import Raw
from ds_inspector.capture.marks import MODULE
from ds_inspector.forest import nearest
from ds_inspector.recording.table import Array, Texts

PHASES = ["other", "forward", "backward", "optimizer", "data"]
"""In a column of phases, by code."""

_OTHER, _FORWARD, _BACKWARD, _OPTIMIZER, _DATA = range(5)
_MARKS = {
    "autograd::engine::evaluate_function": _BACKWARD,
    "Optimizer.": _OPTIMIZER,
    "enumerate(DataLoader)": _DATA,
}
"""Beginnings of what torch calls ranges."""


def phases(raw: Raw, parent: Array, is_module: Array) -> Texts:
    """Tell forward, backward, optimizer and data loading apart.

    Backward is what autograd evaluates, the recomputation of checkpoints included; forward is what
    lies in modules, and what comes after the outermost one until a backward begins, as a loss does.

    Args:
        raw: Events of one step.
        parent: Of each event.
        is_module: Which events are forwards of modules.
    """
    marks = np.array(
        [
            next((code for start, code in _MARKS.items() if name.startswith(start)), _OTHER)
            for name in raw.name.values
        ]
    )[raw.name.codes]
    codes = np.where(nearest(parent, is_module) >= 0, _FORWARD, _OTHER)
    after = (codes == _OTHER) & _before_backward(raw, marks == _BACKWARD)
    codes[after] = _FORWARD
    for code in (_OPTIMIZER, _DATA, _BACKWARD):
        codes[nearest(parent, marks == code) >= 0] = code
    return Texts(codes, PHASES)


def _before_backward(raw: Raw, backward: Array) -> Array:
    """What begins after the whole model's forward and before the backward that follows it."""
    roots = np.flatnonzero(raw.name.equal(MODULE))
    begins = np.sort(raw.start[roots])
    ends = np.sort(raw.start[roots] + raw.duration[roots])
    evaluated = np.sort(raw.start[backward])
    never = np.iinfo(np.int64).max

    def following(times: Array) -> Array:
        padded = np.append(times, never)
        result: Array = padded[np.searchsorted(times, raw.start, side="left")]
        return result

    done = np.searchsorted(ends, raw.start, side="right") > 0
    next_backward = following(evaluated)
    since = np.searchsorted(ends, raw.start, side="right") - 1
    last_end = np.append(ends, never)[since]
    # No node was evaluated since the forward ended.
    clean = np.searchsorted(evaluated, raw.start) == np.searchsorted(evaluated, last_end)
    result: Array = done & clean & (next_backward < following(begins))
    return result
