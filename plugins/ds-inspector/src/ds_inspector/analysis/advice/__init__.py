"""Advice: what costs time or memory for no good reason, with evidence and a remedy.

Each kind of finding has a module of its own, whose function takes `Facts` and says what it found,
or nothing. Limits below which nothing is told stand in those modules: a share that nobody would
notice is no finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ds_inspector.analysis.advice import (
    alignment,
    allocation,
    attention,
    batch_norm,
    casts,
    convolutions,
    data_wait,
    elementwise,
    grad_mode,
    layout,
    loops,
    optimizer,
    projections,
    slow_dtype,
    small_kernels,
    synchronisation,
)
from ds_inspector.analysis.advice.facts import Facts, facts
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.difference import alike, step_seconds
from ds_inspector.analysis.shift import ratio_of
from ds_inspector.recording import Recording

FINDERS: list[Callable[[Facts], Finding | None]] = [
    slow_dtype.find,
    layout.find,
    convolutions.find,
    small_kernels.find,
    loops.find,
    synchronisation.find,
    elementwise.find,
    batch_norm.find,
    attention.find,
    projections.find,
    optimizer.find,
    data_wait.find,
    alignment.find,
    grad_mode.find,
    casts.find,
    allocation.find,
]


def advice(recording: Recording, before: Recording | None = None) -> dict[str, Any]:
    """Findings, those that would save most first.

    Args:
        recording: What is looked at.
        before: An earlier one. What was found in it and is found no more is told last, with
            `measured`: the share of a step that was saved, by all that was changed together. It is
            left out of account if it is of another model.
    """
    found = findings(recording)
    told = sorted(found, key=lambda one: -(one.estimate or 0.0))
    if before is not None and alike(before, recording):
        told += _mended(facts(before), facts(recording), found)
    return {"findings": [one.told() for one in told]}


def findings(recording: Recording) -> list[Finding]:
    """All that is found."""
    known = facts(recording)
    if not recording.events.rows:
        return []
    return [one for find in FINDERS if (one := find(known)) is not None]


def _mended(before: Facts, after: Facts, left: list[Finding]) -> list[Finding]:
    there = {one.id for one in left}
    gone = [one for one in findings(before.recording) if one.id not in there]
    ratio = ratio_of(step_seconds(before.recording), step_seconds(after.recording))
    saved = None if math.isnan(ratio.middle) else 1.0 - ratio.middle
    return [replace(one, measured=saved) for one in gone]
