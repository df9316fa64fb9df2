"""The host waiting for the device's values."""

from __future__ import annotations

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding
from ds_inspector.analysis.timing import timing

_MANY = 10
"""Values read in a step on a CPU, where nothing waits but a loop in Python goes with each."""

_LEAST = 0.01
"""Share of a step, likewise."""


def find(facts: Facts) -> Finding | None:
    """Estimated as the host's time in them on a device, where it waits; unknown on a CPU."""
    on_device = timing(facts.recording).on_device
    rows = facts.named("_local_scalar_dense", "nonzero", "masked_select", "equal")
    rows &= ~facts.is_("phase", "optimizer", "data")
    calls = facts.calls(rows)
    reading = facts.inside(rows | facts.named("item"))
    waited, share = facts.seconds(reading, facts.host), facts.share(reading, facts.host)
    if calls < (1 if on_device else _MANY) or (share < _LEAST and not on_device):
        return None
    return Finding(
        id="host-synchronisation",
        title="Values are read back in the loop",
        evidence=f"{calls:.3g} times in a step the host reads a value, by .item(), a condition on "
        f"a tensor or nonzero, and spends {spent(waited)} in it: {percent(share)} of a step.",
        remedy="Keep values as tensors and read them once in a while, outside of the loop; use "
        "torch.where in place of masks and conditions."
        + (" The estimate is that time." if on_device else ""),
        seconds=waited,
        estimate=share if on_device else None,
        **facts.place(rows),
    )
