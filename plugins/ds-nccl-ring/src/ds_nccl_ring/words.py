"""Sizes and choices as a report says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ds_nccl_ring.placement import Placement
    from ds_nccl_ring.plan import TopologyPlan
    from ds_nccl_ring.selector import Calibration


WIRES = {
    "float32": "in the gradients' own dtype",
    "bfloat16": "in bfloat16, summed in float32",
    "int8": "in int8, whose errors are fed back",
}
"""What numbers between hosts are."""


class Carrier(Protocol):
    """What gradients travel over."""

    placement: Placement
    calibration: Calibration | None

    @property
    def plan(self) -> TopologyPlan:
        """What is used for each size."""

    @property
    def bytes_sent(self) -> dict[str, int]:
        """To each other host."""


def algorithm_table(plan: TopologyPlan, calibration: Calibration | None) -> dict[str, str]:
    """From which size which algorithm, with the times that decided, where there are any."""
    from ds_core.cli.output import size as told

    if calibration is None:
        return {f"from {told(start)}": name for start, name in plan.algorithms}
    found = {"below " + told(min(calibration.seconds)): "flat"}
    for size, times in sorted(calibration.seconds.items()):
        timed = ", ".join(f"{name} {seconds * 1e3:.3g} ms" for name, seconds in times.items())
        found[f"from {told(size)}"] = f"{plan.algorithm(size)} ({timed})"
    return found


def carrier_report(carrier: Carrier) -> dict[str, Any]:
    """Hosts, what is used for each size, and what was sent."""
    from ds_core.cli.output import size as told

    plan, placement = carrier.plan, carrier.placement
    found: dict[str, Any] = {
        "ranks": placement.size,
        "hosts": {host.name: len(host.ranks) for host in placement.hosts},
        "proved by": placement.proof,
        "rails": plan.rails,
        "legs": plan.legs,
        "wire": plan.wire,
        "reductions": algorithm_table(plan, carrier.calibration),
    }
    sent = {host: told(count) for host, count in carrier.bytes_sent.items() if count}
    if sent:
        found["sent to"] = sent
    if placement.notes:
        found["notes"] = list(placement.notes)
    return found
