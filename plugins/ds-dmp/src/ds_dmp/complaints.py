"""What is to be said of numbers that are not finite: once, and whose fault they are."""

from __future__ import annotations

from collections.abc import Mapping

from ds_core.notices import warn
from ds_dmp.evidence import Evidence
from ds_dmp.ladder import FULL
from ds_dmp.plan import Plan


class Complaints:
    """Warnings of one session, each given once and kept for its report."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._kinds: set[str] = set()

    def say(self, kind: str, what: str) -> None:
        """Warn, unless something of this kind was said before."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.said.append(what)
            warn(what)

    def of_look(
        self, model: str, step: int, plan: Plan, found: Mapping[str, Evidence], scalable: bool
    ) -> None:
        """Say what a look tells of the data, of the model or of the loss.

        Args:
            model: The model's class.
            step: When it was.
            plan: What layers computed in when they were looked at.
            found: By layer.
            scalable: A smaller loss scale may still mend what went wrong.
        """
        broken = [name for name, one in found.items() if one.broken == "forward"]
        in_full = [name for name in broken if plan.dtype_of(name) == FULL]
        if input_spoiled(plan, found):
            self.say(
                "input",
                f"inf or nan came into {model} by its input, seen at step {step}. Look at the "
                "data: what is computed from it is not finite either, in any precision.",
            )
        elif in_full:
            self.say(
                "diverged",
                f"{in_full[0]!r} made inf or nan of finite numbers at step {step}, in float32: "
                "training diverges. Look at the learning rate.",
            )
        elif not broken and not scalable and any(one.spoiled_output for one in found.values()):
            self.say(
                "loss",
                f"Gradients that are not finite came back into {model} at step {step}: the loss, "
                "or what stands between it and the model, is inf or nan.",
            )


def input_spoiled(plan: Plan, found: Mapping[str, Evidence]) -> bool:
    """Whether what came into the layer that was called first was not finite already."""
    called = [layer for layer in plan.layers if layer.order]
    first = min(called, key=lambda layer: layer.order, default=None)
    return first is not None and first.name in found and found[first.name].spoiled_input
