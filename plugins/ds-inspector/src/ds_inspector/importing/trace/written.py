"""What the export of a recording wrote into the arguments of each event."""

from __future__ import annotations

from typing import Any

import numpy as np

from ds_inspector.forest import Ints
from ds_inspector.importing.limits import cut
from ds_inspector.importing.trace.rows import Rows
from ds_inspector.recording.table import Texts

EXPORTER = "ds-inspector"
"""Stands beside the events of such a trace."""

STEP = "step"
"""Category of what is no event, but a step."""

TEXTS = ("module", "source", "phase", "shapes", "dtype")
NUMBERS = ("flops", "bytes")


def is_ours(about: dict[str, Any]) -> bool:
    """Whether a trace was written here."""
    return about.get("exporter") == EXPORTER


def columns(given: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """The columns that arguments hold; what is not of its type is unknown."""
    found: dict[str, Any] = {}
    for name in TEXTS:
        values = (arguments.get(name, "") for arguments in given)
        found[name] = Texts.of(cut(value) if isinstance(value, str) else "" for value in values)
    for name in NUMBERS:
        found[name] = np.array([_number(arguments.get(name)) for arguments in given])
    numbers = np.array([_number(arguments.get("step")) for arguments in given])
    known = (numbers >= 0) & (numbers < steps)
    found["step"] = np.where(known, numbers, -1).astype(np.int64)
    return found


def steps(rows: Rows) -> tuple[Ints, Ints]:
    """Starts and ends of the steps in nanoseconds."""
    chosen = np.array([category == STEP for category in rows.known["category"]], bool)
    at = np.flatnonzero(chosen[rows.codes["category"]] & rows.timed)
    at = at[np.argsort(rows.start[at], kind="stable")]
    begin = np.rint(rows.start[at] * 1000).astype(np.int64)
    return begin, begin + np.rint(rows.duration[at] * 1000).astype(np.int64)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else np.nan
