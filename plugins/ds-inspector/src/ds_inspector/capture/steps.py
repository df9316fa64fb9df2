"""Finding the model and the steps of a script that runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ds_core.changes import Changes
from ds_inspector.capture.finishing import finish
from ds_inspector.capture.graph import first_line
from ds_inspector.capture.modules import unwrapped
from ds_inspector.capture.recorder import Recorder
from ds_inspector.recording import Recording

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

_PATIENCE = 16
"""Forwards with gradients but without an optimizer after which no optimizer is waited for."""


class Enough(BaseException):
    """Ends a script whose steps are recorded; no `except Exception` of its own catches it."""


class Steps:
    """Watches what runs in this process, and records a window of steps.

    The model is the largest of the modules that are called by no other. A step ends with the step
    of the optimizer that was first to take one; where none takes one, with the model's forward.

    Args:
        steps: As of `Recorder`.
        warmup: Steps before the first that is recorded.
        collectors: As of `Recorder`.
        command: What the recording says was run.
        stop: Raise `Enough` at the end.
        done: Called with the recording.

    Attributes:
        problems: Why there is no recording; sentences.
    """

    def __init__(
        self,
        *,
        steps: int,
        warmup: int,
        collectors: Sequence[str],
        command: str,
        stop: bool,
        done: Callable[[Recording], None],
    ) -> None:
        self.problems: list[str] = []
        self._steps = steps
        self._warmup = warmup
        self._collectors = collectors
        self._command = command
        self._stop = stop
        self._done = done
        self._watching = Changes()  # while the model is looked for
        self._stepping = Changes()
        self._forwards = Changes()
        self._depth = 0
        self._roots: dict[Module, int] = {}  # forwards of modules that nothing else called
        self._optimizer: Optimizer | None = None
        self._count = 0
        self._recorder: Recorder | None = None
        self._finished = False

    def start(self) -> None:
        """Begin to watch."""
        from torch.nn.modules.module import (
            register_module_forward_hook,
            register_module_forward_pre_hook,
        )
        from torch.optim.optimizer import (
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )

        self._watching.add_handle(register_module_forward_pre_hook(self._called))
        self._watching.add_handle(register_module_forward_hook(self._returned, always_call=True))
        self._stepping.add_handle(register_optimizer_step_pre_hook(self._stepping_now))
        self._stepping.add_handle(register_optimizer_step_post_hook(self._stepped))

    def end(self) -> None:
        """The script is over: give out what was recorded, if that did not happen yet."""
        if not self._finished:
            self._finish()
        for changes in (self._watching, self._stepping, self._forwards):
            changes.undo()

    # What the script does

    def _called(self, module: Module, args: Any) -> None:
        import torch

        if torch.compiler.is_compiling():
            return
        if self._depth == 0:
            self._roots.setdefault(module, 0)
        self._depth += 1

    def _returned(self, module: Module, args: Any, output: Any) -> None:
        import torch

        if torch.compiler.is_compiling():
            return
        self._depth = max(self._depth - 1, 0)
        if self._depth == 0 and module in self._roots:
            self._roots[module] += 1
            if self._optimizer is None and module is self._model() and self._infers(module):
                self._boundary(at_forward=True)

    def _stepping_now(self, optimizer: Optimizer, *arguments: Any) -> None:
        if self._recorder is not None:
            self._recorder.before_optimizer(optimizer)

    def _stepped(self, optimizer: Optimizer, *arguments: Any) -> None:
        if self._recorder is not None:
            self._recorder.after_optimizer(optimizer)
        if self._optimizer is None:
            self._optimizer = optimizer
            self._count = 0
        if optimizer is self._optimizer:
            self._boundary(at_forward=False)

    def _infers(self, model: Module) -> bool:
        """Whether forwards are steps of their own, as no optimizer will follow them."""
        if any(parameter.grad is not None for parameter in model.parameters()):
            return self._roots[model] > _PATIENCE
        return True

    def _model(self) -> Module | None:
        sizes = {
            module: sum(parameter.numel() for parameter in unwrapped(module).parameters())
            for module in self._roots
        }
        return max(sizes, key=lambda module: sizes[module], default=None)

    # Steps

    def _boundary(self, *, at_forward: bool) -> None:
        try:
            self._advance(at_forward)
        except Enough:
            raise
        except Exception as error:  # nothing of ours may stop the script
            self._give_up(f"Recording ended early: {first_line(error)}.")

    def _advance(self, at_forward: bool) -> None:
        if self._finished:
            return
        recorder = self._recorder
        if recorder is None:
            self._count += 1
            if self._count >= max(self._warmup, 1):
                self._begin(at_forward)
            return
        recorder.end()
        if not recorder.done:
            recorder.begin()
            self._follow(recorder.model, at_forward)
            return
        self._finish()
        if self._stop:
            raise Enough

    def _begin(self, at_forward: bool) -> None:
        model = self._model()
        if model is None:
            return
        self._watching.undo()
        recorder = Recorder(model, steps=self._steps, collectors=self._collectors)
        self._recorder = recorder
        recorder.begin()
        self._follow(model, at_forward)

    def _follow(self, model: Module, at_forward: bool) -> None:
        if at_forward:  # after the hooks of the step that has begun, to be called after them
            self._forwards.undo()
            self._forwards.add_handle(model.register_forward_hook(self._forwarded))

    def _forwarded(self, module: Module, args: Any, output: Any) -> None:
        if self._optimizer is None:
            self._boundary(at_forward=True)

    def _give_up(self, problem: str) -> None:
        self.problems.append(problem)
        if self._recorder is not None:
            self._recorder.close()
        self._finished = True
        self._watching.undo()

    def _finish(self) -> None:
        self._finished = True
        recorder = self._recorder
        if recorder is None:
            self.problems.append(self._why_nothing())
            return
        recorder.close()
        if not recorder.recorded.seconds:
            self.problems.append("The script ended before a step that is recorded did.")
            return
        self._done(finish(recorder, self._collectors, command=self._command))

    def _why_nothing(self) -> str:
        if not self._roots:
            return "Nothing was recorded: the script called no torch.nn.Module."
        return (
            f"Nothing was recorded: the script ended after {self._count} steps, of which "
            f"{max(self._warmup, 1)} are warm-up. Give a lower --warmup or let it run longer."
        )


__all__ = ["Enough", "Steps"]
