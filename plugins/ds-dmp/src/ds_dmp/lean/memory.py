"""Less memory for training one model: what is saved for backward, and what optimizers keep."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ds_core.errors import ConfigError
from ds_core.nested import tensors_in
from ds_core.notices import warn
from ds_dmp.lean.budget import choose_bits
from ds_dmp.lean.figures import MECHANISMS, Figures
from ds_dmp.lean.noise import Noise
from ds_dmp.lean.optimizer_state import OptimizerState
from ds_dmp.lean.packing import Frame, Settings, Unpackable
from ds_dmp.lean.recompute import Rule, rule_for

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.changes import Changes
    from ds_core.hookspecs import Around


class LeanMemory:
    """Holds what autograd saves in a model's forward in few bits, or not at all.

    Three things happen to saved tensors. Activations are packed in 8, 4 or 2 bits an element with
    stochastic rounding (ActNN, arXiv:2104.14129; GACT, arXiv:2206.11357), so that gradients keep
    their expectation and gain a little variance. Outputs of normalisations and activation functions
    are computed again from their input, where that was saved. 16-bit copies of parameters, which
    autocast makes and matrix products save, are made again from the parameter. With `plus`, also
    optimizers' state is held in bfloat16 between steps.

    Make it before anything else swaps classes of the model's modules: a module is recomputed only
    where its forward is still the one that torch defines.

    Args:
        model: Each of its modules gets a forward that tells whose tensors are being saved.
        changes: Where that is recorded; undoing it also makes optimizers' state float32 again.
        plus: 4 bits instead of 8 where no budget is given, and optimizer state in bfloat16.
        budget: For what one forward saves: bytes, or a ratio (above 0, at most 1) of what float32
            would have saved. Bits are chosen under it from the second forward on.
        seed: For stochastic rounding; torch's own random numbers are not touched.
        pack: Whether activations are packed.
        recompute: Whether outputs are recomputed.
        recast: Whether 16-bit copies of parameters are made again.

    Raises:
        ConfigError: The budget is neither bytes nor a ratio.
    """

    def __init__(
        self,
        model: Module,
        changes: Changes,
        *,
        plus: bool,
        budget: int | float | None = None,
        seed: int = 0,
        pack: bool = True,
        recompute: bool = True,
        recast: bool = True,
    ) -> None:
        if budget is not None and not _is_budget(budget):
            raise ConfigError(
                f"A memory budget cannot be {budget!r}.",
                mend="Give bytes as a whole number, or a ratio of float32 such as 0.25.",
            )
        self._model = model
        self._plus = plus
        self._budget = budget
        self._noise = Noise(seed)
        self._bits: dict[str, int] = {}
        self._spreads: dict[str, float] = {}
        self._figures = Figures()
        self._feasible: bool | None = None
        self._measure = False
        self._verified: set[str] = set()
        self._parts = {"pack": pack, "recompute": recompute, "recast": recast}
        self._here = threading.local()
        self._state = OptimizerState(self._noise)
        self._track(changes)
        if plus:
            changes.on_undo(self._state.restore)

    # For the session

    def around(self) -> Around:
        """The function that surrounds each forward of the model."""
        import torch
        from torch.autograd.graph import saved_tensors_hooks

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if torch.compiler.is_compiling() or not torch.is_grad_enabled():
                return call(*args, **kwargs)
            if not _hooks_allowed():
                return call(*args, **kwargs)
            frame, outer = self._frame(args, kwargs), self._current()
            self._here.frame = frame
            try:
                with saved_tensors_hooks(frame.pack, _unpack):
                    output = call(*args, **kwargs)
            finally:
                self._here.frame = outer
                frame.close()
            self._take(frame.figures)
            return output

        return around

    def before_step(self, optimizer: Optimizer) -> None:
        """Make the optimizer's state float32, as it reads it; to be called before each step."""
        if self._plus:
            self._state.expand(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        """Round the optimizer's state to bfloat16; to be called after each step."""
        if self._plus:
            self._state.compress(optimizer)

    def choose(self, gradient_mean_square: Mapping[str, float]) -> None:
        """Choose each layer's bits anew, from what the last forward saved.

        Args:
            gradient_mean_square: From layers' names to the mean square of their output gradients;
                those that it leaves out count as its median. Only ratios matter.
        """
        layers, fixed = self._figures.candidates(self._spreads, gradient_mean_square)
        if self._budget is None or not layers:
            return
        budget = self._budget
        if isinstance(budget, float):
            budget = int(budget * self._figures.total().float32)
        choice = choose_bits(layers, budget, fixed)
        self._bits = choice.bits
        if self._feasible is not False and not choice.feasible:
            warn(
                f"The memory budget of {budget:,} bytes cannot be kept: with 2 bits for every "
                f"layer, a forward saves {choice.size:,} bytes. Give it more, or a smaller batch."
            )
        self._feasible = choice.feasible

    def measure(self) -> None:
        """Have the next forward compare what it saves with what that will come back as."""
        self._measure = True

    def report(self) -> dict[str, Any]:
        """The last training forward in figures: JSON-compatible; sizes in bytes.

        `layers` has a row for each layer, `totals` one for each thing that happens to tensors. In
        each, `before` is what would have been saved in the tensors' own dtypes, `float32` what a
        float32 model would have saved, `now` what is saved, and `error` the mean relative error,
        None where none was measured. `budget` and `feasible` are None without a budget.
        """
        totals = {name: self._figures.total(name).row() for name in MECHANISMS}
        return {
            "budget": self._budget,
            "feasible": self._feasible,
            "totals": {**totals, "all": self._figures.total().row()},
            "optimizer state": self._state.figures(),
            "layers": self._figures.rows(self._width),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to go on with the same bits and the same rounding."""
        return {
            "seed": self._noise.seed,
            "draws": self._noise.draws,
            "bits": dict(self._bits),
            "spreads": dict(self._spreads),
            "feasible": self._feasible,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._noise.load(state["seed"], state["draws"])
        self._bits, self._spreads = dict(state["bits"]), dict(state["spreads"])
        self._feasible = state["feasible"]

    # Forwards

    def _frame(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Frame:
        settings = Settings(
            self._width, self._noise, self._verified, measure=self._measure, **self._parts
        )
        self._measure = False
        model = self._model
        return Frame(
            settings,
            itertools.chain(model.parameters(), model.buffers()),
            tensors_in((args, kwargs)),
        )

    def _current(self) -> Frame | None:
        return getattr(self._here, "frame", None)

    def _width(self, layer: str) -> int:
        return self._bits.get(layer, 4 if self._plus and self._budget is None else 8)

    def _take(self, figures: Figures) -> None:
        self._figures = figures
        for name, layer in figures.layers.items():
            if layer.spread:
                self._spreads[name] = layer.spread
        if self._budget is not None and self._feasible is None:
            self.choose({})

    # Modules

    def _track(self, changes: Changes) -> None:
        import torch

        for name, module in self._model.named_modules():
            replaced = "forward" in vars(module)
            if module is self._model or replaced or isinstance(module, torch.jit.ScriptModule):
                continue
            forward = self._forward(name, rule_for(module), type(module).forward)
            changes.set_methods(module, forward=forward)

    def _forward(
        self, name: str, rule: Rule | None, original: Callable[..., Any]
    ) -> Callable[..., Any]:
        import torch

        @functools.wraps(original)
        def forward(module: Module, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            frame = self._current()
            if frame is None:
                return original(module, *args, **kwargs)
            return frame.call(name, rule, module, original, args, kwargs)

        return forward


def _hooks_allowed() -> bool:
    """False within torch.func, which has no such hooks."""
    from torch._C import _autograd

    return bool(_autograd._saved_tensors_hooks_is_enabled())  # type: ignore[attr-defined]


def _unpack(saved: Unpackable) -> Tensor:
    import torch

    with torch.no_grad():
        return saved.unpack()


def _is_budget(budget: object) -> bool:
    if isinstance(budget, float):
        return 0 < budget <= 1
    return isinstance(budget, int) and not isinstance(budget, bool) and budget > 0
