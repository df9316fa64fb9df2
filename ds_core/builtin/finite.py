"""An alarm for gradients that are not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from ds_core.components import Observer, Options
from ds_core.errors import DsError
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

    from ds_core.session import Session


class DivergedError(DsError):
    """Training produced a gradient that is not finite."""


class Finite(Observer):
    """Names the step and the layers in which gradients became nan or inf.

    One counter for each parameter stays on the device and is read every `every` steps, so the
    device is not made to wait in between.
    """

    name = "finite"

    class Config(Options):
        """What to do, and how often to look."""

        action: Literal["stop", "count"] = "stop"
        """`stop` raises before the step is taken; `count` goes on and reports."""
        every: int = pydantic.Field(default=1, ge=1)
        """Steps between two looks."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._counters: dict[str, Tensor] = {}
        self._found: list[dict[str, Any]] = []
        self._step = 0

    @hookimpl
    def ds_parameter_gradient(
        self, session: Session, name: str, parameter: Parameter
    ) -> Callable[[Tensor], None]:
        """Count the gradient's entries that are not finite."""
        import torch

        counter = torch.zeros((), dtype=torch.int64, device=parameter.device)
        self._counters[name] = counter

        def count(gradient: Tensor) -> None:
            values = gradient.detach()
            if values.layout is not torch.strided:
                values = values.coalesce().values()
            counter.add_((~torch.isfinite(values)).sum())

        return count

    @hookimpl
    def ds_before_step(self, session: Session, optimizer: Optimizer) -> None:
        """Look at the counters; stop or take note."""
        self._step += 1
        if self._step % self.config.every:
            return
        bad = {name: int(counter) for name, counter in self._counters.items() if counter.item()}
        if not bad:
            return
        for counter in self._counters.values():
            counter.zero_()
        self._found.append({"step": self._step, "layers": bad})
        # With a loss scale, an overflow now and then is how the scale is found.
        if self.config.action == "stop" and session.loss_scale is None:
            name, count = next(iter(bad.items()))
            raise DivergedError(
                f"At step {self._step}, the gradients of {len(bad)} of {len(self._counters)} "
                f"parameters have entries that are nan or inf, {name!r} {count:,} of them; the "
                "step was not taken.",
                mend="Look at this batch, lower the learning rate, or clip gradients.",
            )

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Forget parameters that are gone."""
        names = dict(model.named_parameters())
        self._counters = {
            name: counter for name, counter in self._counters.items() if name in names
        }

    def report(self) -> dict[str, Any]:
        return {"steps seen": self._step, "not finite": self._found}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "found": list(self._found)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._found = state["step"], list(state["found"])
