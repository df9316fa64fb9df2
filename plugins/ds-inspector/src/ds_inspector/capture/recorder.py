"""Recording a window of a model's steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds_core.changes import Changes
from ds_inspector.capture import modules, schedule
from ds_inspector.capture.dispatch import Dispatch
from ds_inspector.capture.lifetimes import Lifetimes, Read
from ds_inspector.capture.lines import Lines
from ds_inspector.capture.profile import Profile

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


@dataclass
class Recorded:
    """What was recorded, before it is understood.

    Attributes:
        classes: Of modules by qualified name.
        traced: What was dispatched in the step in which lines of code were looked for.
        timed: Events of each timed step.
        lived: Begin and end of each step with lifetimes, in nanoseconds.
        lifetimes: What was seen in them.
        seconds: Of steps by role.
        problems: What is missing, and why.
    """

    classes: dict[str, str]
    lines: Lines
    traced: Dispatch | None = None
    timed: list[Any] = field(default_factory=list)
    lived: list[tuple[int, int]] = field(default_factory=list)
    lifetimes: Lifetimes | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    device: str = "cpu"
    inputs: tuple[tuple[Any, ...], dict[str, Any]] | None = None


class Recorder:
    """Switches instruments on and off between the steps of a model.

    Whoever drives it calls `begin` and `end` around each step until it is `done`, within it
    `before_optimizer` and `after_optimizer`, and `close` at last, also when the steps end early. In
    between steps nothing is left on the model. (It has no hooks on optimizers of its own, as torch
    allows none to come and go while others are called, which is when most steps end.)

    Args:
        model: What is followed; wrappers of `torch.compile` and data parallelism are looked into.
        steps: How many steps each collector records.
        collectors: Of `schedule.COLLECTORS`.
        read: What the device's allocator says.
    """

    def __init__(
        self, model: Module, *, steps: int, collectors: Sequence[str], read: Read | None = None
    ) -> None:
        import torch

        from ds_core.placement import device_of

        self.model = model
        self.inner = modules.unwrapped(model)
        self.device = device_of(self.inner) or torch.device("cpu")
        self.roles = schedule.roles(steps, collectors)
        self._collectors = collectors
        self._read = read or allocator(self.device)
        self._position = 0
        self._role = ""
        self._begun = 0
        self._profile = Profile(self.device)
        self._changes = Changes()
        self._names = _names(model, self.inner)
        lines = Lines(self.inner)
        classes = {name: type(module).__name__ for module, name in self._names.items()}
        self.recorded = Recorded(classes, lines, device=str(self.device))
        if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
            self._problem(
                f"{type(self.inner).__name__} is compiled: what runs within belongs to no module."
            )
        if schedule.SOURCES in self.roles:
            self.recorded.traced = Dispatch(lines, everywhere=True)
        if schedule.LIFETIMES in collectors:
            self.recorded.lifetimes = Lifetimes(self.inner, lines, self._read)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to record."""
        return self._position >= len(self.roles)

    @property
    def running(self) -> bool:
        """Whether a step has begun and not ended."""
        return bool(self._role)

    def begin(self) -> None:
        """A step begins; call it once the one before has ended."""
        if self.done or self._role:
            return
        role = self._start(self.roles[self._position])
        self._synchronize()
        self._role, self._begun = role, time.perf_counter_ns()

    def _start(self, role: str) -> str:
        """Switch on what a role needs; the role itself, or `plain` where it cannot be played."""
        if role == schedule.PLAIN:
            return role
        import torch

        profiled: bool = torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        if role == schedule.TIME and profiled:
            self._problem("Steps were not timed, as another profiler was running.")
            return schedule.PLAIN
        try:
            self._synchronize()
            self._listen(role)
            if role == schedule.TIME:
                self._profile.start()
            else:
                self._dispatch(role).start()
        except RuntimeError as error:  # another profiler runs
            self._changes.undo()
            self._problem(f"A step could not be recorded ({role}): {_first_line(error)}.")
            return schedule.PLAIN
        return role

    def end(self) -> None:
        """The step ends."""
        if not self._role:
            return
        self._synchronize()
        ended = time.perf_counter_ns()
        role, self._role = self._role, ""
        self._position += 1
        result = self._stop(role)
        recorded = self.recorded
        recorded.seconds.setdefault(role, []).append((ended - self._begun) * 1e-9)
        if role == schedule.TIME:
            recorded.timed.append(result)
        elif role == schedule.LIFETIMES:
            recorded.lived.append((self._begun, ended))

    def _stop(self, role: str) -> Any:
        try:
            if role == schedule.TIME:
                return self._profile.stop()
            if role != schedule.PLAIN:
                self._dispatch(role).stop()
        finally:
            self._changes.undo()
        return None

    def close(self) -> Recorded:
        """Leave the model alone, and give out what was recorded; an unfinished step is dropped."""
        role, self._role = self._role, ""
        if role:
            self._stop(role)
            self._problem("The last step did not end and is left out.")
        if self.recorded.lifetimes is not None:
            self.recorded.lifetimes.close()
        self._position = len(self.roles)
        return self.recorded

    def _problem(self, sentence: str) -> None:
        if sentence not in self.recorded.problems:
            self.recorded.problems.append(sentence)

    def _synchronize(self) -> None:
        if self.device.type != "cpu":
            import torch

            module: Any = getattr(torch, self.device.type, None)
            if hasattr(module, "synchronize"):
                module.synchronize()

    def _dispatch(self, role: str) -> Dispatch:
        found = self.recorded.lifetimes if role == schedule.LIFETIMES else self.recorded.traced
        assert found is not None
        return found

    # While a step is recorded

    def before_optimizer(self, optimizer: Optimizer) -> None:
        """An optimizer's step begins; to be called by whoever drives the recorder."""
        if self._role in (schedule.SOURCES, schedule.LIFETIMES):
            self._dispatch(self._role).before_optimizer(optimizer)

    def after_optimizer(self, optimizer: Optimizer) -> None:
        """It has ended."""
        if self._role in (schedule.SOURCES, schedule.LIFETIMES):
            self._dispatch(self._role).after_optimizer(optimizer)

    def _listen(self, role: str) -> None:
        enter: modules.Enter = self._profile.enter
        leave: modules.Leave = self._profile.leave
        if role != schedule.TIME:
            watch = self._dispatch(role)
            enter, leave = watch.enter, watch.leave

        def left(name: str, inputs: Any, output: Any) -> None:
            leave(name, inputs, output)
            wanted = self.recorded.inputs is None and "graph" in self._collectors
            if wanted and not name and output is not None:
                self._keep_inputs(inputs)

        self._changes = modules.follow(self._names, enter, left)

    def _keep_inputs(self, inputs: Any) -> None:
        from ds_core.nested import map_tensors

        watch: AbstractContextManager[None] = nullcontext()
        if self._role != schedule.TIME:
            watch = self._dispatch(self._role).aside()
        with watch:
            args, kwargs = inputs
            kept = map_tensors(lambda tensor: tensor.detach().clone(), [list(args), kwargs])
        self.recorded.inputs = tuple(kept[0]), kept[1]


def _names(model: Module, inner: Module) -> dict[Module, str]:
    names = modules.names_of(inner)
    if model is not inner:  # what calls a compiled model's modules does not come by their hooks
        names[model] = ""
        if hasattr(model, "_orig_mod"):
            del names[inner]
    return names


def allocator(device: Any) -> Read | None:
    """How to ask the device's allocator for the bytes that it has given out; None on the CPU."""
    import torch

    module: Any = getattr(torch, device.type, None)
    if device.type == "cpu" or not hasattr(module, "memory_allocated"):
        return None
    return lambda: int(module.memory_allocated(device))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
