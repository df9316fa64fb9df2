"""Training that waits for its data."""

from __future__ import annotations

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.05
"""Share of a step."""


def find(facts: Facts) -> Finding | None:
    """Estimated as all of it, which workers that are fast enough take over."""
    rows = facts.is_("phase", "data")
    seconds, share = facts.seconds(rows, facts.host), facts.share(rows, facts.host)
    if share < _LEAST:
        return None
    return Finding(
        id="data-wait",
        title="Waiting for data",
        evidence=f"A step waits {spent(seconds)} for its batch: {percent(share)} of it.",
        remedy="Give the DataLoader workers (num_workers, persistent_workers=True), or do less for "
        "each sample. The estimate is all of the wait.",
        seconds=seconds,
        estimate=share,
        pass_="num_workers",
        **facts.place(rows),
    )
