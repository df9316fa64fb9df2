"""Source lines that call the same small operators again and again."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.paths import distinct
from ds_inspector.forest import sum_by
from ds_inspector.recording import Texts

_MANY = 16
"""Calls in a step."""
_SMALL = 1e-3
"""Seconds of a call."""
_LEAST = 0.05
"""Share of a step."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all but the time of one call of each operator.

    What one operation on all elements takes is not known; small ones are mostly overhead.
    """
    events = facts.recording.events
    sources = events.texts("source")
    outer = facts.operator & ~facts.inside_parent(facts.operator) & ~facts.is_("source", "")
    outer &= ~facts.is_("phase", "optimizer", "data", "backward")
    rows = np.flatnonzero(outer)
    total = facts.total
    found, places = distinct(
        sources.take(rows), events.texts("module").take(rows), events.texts("name").take(rows)
    )
    if not found:
        return None
    steps = len(facts.lengths)
    calls = np.bincount(places) / steps
    seconds = sum_by(places, total[rows], len(found)) / steps
    looping = (calls >= _MANY) & (seconds / calls < _SMALL)
    # Lines of one file are judged together: a loop has several.
    files = Texts.of(text.rpartition(":")[0] for text in sources.values)
    places_of = np.array([(files.codes[code[0]], code[1]) for code in found])
    loops, member = np.unique(places_of, axis=0, return_inverse=True)
    member = member.ravel()
    worst = int(np.argmax(sum_by(member[looping], seconds[looping], len(loops))))
    mine = looping & (member == worst)
    here = np.zeros(events.rows, bool)
    here[rows[mine[places]]] = True
    share = facts.share(here, total)
    if share < _LEAST:
        return None
    times, length = float(np.median(calls[mine])), facts.seconds(here, total)
    lines = sorted({sources.values[code[0]] for code, one in zip(found, mine, strict=True) if one})
    place = lines[0] + (f" and {len(lines) - 1} more lines" if len(lines) > 1 else "")
    return Finding(
        id="loop-of-small-calls",
        title="A loop of small operations",
        evidence=f"{place}: the same operators are called {times:.4g} times in a step, "
        f"which takes {spent(length)}: {percent(share)} of it.",
        remedy="Write it as one operation on all elements. The estimate is the time of all calls "
        "but one of each operator.",
        seconds=length,
        estimate=share * (1 - 1 / times),
        **facts.place(here),
    )
