"""A session: one backend and any passes, applied in place to the user's model and optimizers."""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ds_core.changes import Changes, plainly
from ds_core.components.backend import Backend
from ds_core.components.component import Component
from ds_core.compose import check_fit
from ds_core.contract import in_order, manager_for
from ds_core.errors import RefusedError, SessionError
from ds_core.forward import Surrounding, check_device
from ds_core.nested import map_tensors
from ds_core.placement import device_of, place
from ds_core.provenance import compare_ranks
from ds_core.report import ComponentReport, Report
from ds_core.scaling import LossScale, OverflowWatch, scaled_forward
from ds_core.scaling_audit import check_opaque, inspect_forward
from ds_core.subjects import check_subjects, process_group, unwrapped

if TYPE_CHECKING:
    import pluggy
    import torch
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

    from ds_core.hookspecs import Around

OVERFLOW = "overflow"
"""The reason under which steps with gradients that are not finite are skipped."""

_attached: weakref.WeakValueDictionary[int, Session] = weakref.WeakValueDictionary()
_owners: weakref.WeakValueDictionary[int, Session] = weakref.WeakValueDictionary()


class _Stepping(NamedTuple):
    """Callers of the hooks around a step; None where nobody listens."""

    before: pluggy.HookCaller | None
    after: pluggy.HookCaller | None


class Session:
    """One training job's components, attached to a model and its optimizers.

    [`ds_core.attach`][ds_core.attaching.attach] makes one from names and settings; this class is
    for those who compose it by hand. The model and the optimizers stay the user's own objects:

        with Session(model, optimizer, backend=Cpu(), passes=[Bf16()]) as session:
            ...  # the usual loop

    Args:
        model: Trained or used in place. A model wrapped by `torch.compile` is attached inside.
        optimizer: One, several, or None where the model is only used.
        backend: The hardware, activated.
        passes: Components of the other kinds, in any order; at most one of each kind but observers.
        total_steps: Length of the training in optimizer steps, for passes with a schedule.

    Attributes:
        model: The model, without `torch.compile`'s wrapper.
        optimizers: The optimizers, in the order given.
        backend: The backend.
        components: All components, the backend among them, in the order in which hooks are called.
        changes: What was changed so far; components record theirs in it.
        steps: Optimizer steps that took place.
        skipped: Steps that did not, counted by reason.
        loss_scale: The loss scale in use, or None.
        total_steps: As given.
        synchronising: Whether a topology is to reduce gradients; see `no_sync`.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        *,
        backend: Backend,
        passes: Iterable[Component] = (),
        total_steps: int | None = None,
    ) -> None:
        self.model = unwrapped(model)
        self.optimizers = check_subjects(self.model, optimizer)
        self.backend = backend
        components = [*passes, backend]
        check_fit(components)
        self.manager = manager_for(components)
        self.components = in_order(components)
        self.changes = Changes()
        self.steps = 0
        self.skipped: Counter[str] = Counter()
        self.loss_scale: LossScale | None = None
        self.total_steps = total_steps
        self.synchronising = True
        self._gradient_hooks = Changes()
        self._watch = OverflowWatch()
        self._watched: set[int] = set()  # ids of parameters that their hooks keep alive
        self._resting: list[Component] = []
        self._arounds: list[tuple[Component | None, Around]] = []
        self._surrounding: Surrounding | None = None
        self._stepping = _Stepping(None, None)
        self._skip: str | None = None
        self._moved = False
        self._ended = False

    # Life

    @property
    def passes(self) -> list[Component]:
        """All components but the backend, which sessions may share."""
        return [part for part in self.components if part is not self.backend]

    @property
    def attached(self) -> bool:
        """Whether the session is in effect."""
        return _attached.get(id(self.model)) is self

    def attach(self) -> Self:
        """Apply all components. Where one of them refuses, everything is as before.

        Raises:
            SessionError: The model is attached to a session already, or ranks differ.
            RefusedError: A component cannot work on this model; says why.
            HookError: A component failed.
        """
        if id(self.model) in _attached:
            raise SessionError(
                f"This {type(self.model).__name__} is attached to a session already.",
                mend="Detach that one first, or give all passes to one attach.",
            )
        self._check_alone()
        self._ended = False
        hook = self.manager.hook
        try:
            hook.ds_session_start(session=self)
            hook.ds_join(session=self)
            if any(part.kind == "topology" for part in self.components):
                compare_ranks([_identity(part) for part in self.components])
            hook.ds_prepare_model(session=self, model=self.model)
            for optimizer in self.optimizers:
                hook.ds_prepare_optimizer(session=self, optimizer=optimizer)
            if self.optimizers:
                self.loss_scale = hook.ds_loss_scale(session=self)
            self._surround_forward()
            self._install_gradient_hooks()
            self._install_step_hooks()
        except BaseException:
            self._roll_back()
            raise
        _attached[id(self.model)] = self
        for part in self.passes:
            _owners[id(part)] = self
        return self

    def _check_alone(self) -> None:
        for part in self.passes:
            owner = _owners.get(id(part))
            if owner is not None and owner.attached:
                raise SessionError(
                    f"{part!r} is in use by the session of {type(owner.model).__name__}.",
                    mend="Make one component for each session.",
                )
            if part.kind == "topology" and process_group(self.model) is not None:
                raise RefusedError(
                    f"topology {part.name!r} would average gradients that torch's "
                    "DistributedDataParallel averages already.",
                    mend="Attach the module inside it, or leave the topology out.",
                )

    def detach(self) -> None:
        """Give the model and the optimizers back as they were, but for what training changed.

        Raises:
            SessionError: The session is not attached.
        """
        if not self.attached:
            raise SessionError(
                "This session is not attached.", mend="Detach once, and only after attach."
            )
        try:
            if not self._ended:
                self._ended = True
                self._wake()
                self.manager.hook.ds_session_end(session=self)
        finally:
            # What cannot be undone yet may be undone by another detach.
            self._roll_back()
            del _attached[id(self.model)]

    def __enter__(self) -> Self:
        return self if self.attached else self.attach()

    def __exit__(self, *exception: object) -> None:
        if self.attached:
            self.detach()

    def _roll_back(self) -> None:
        try:
            self._gradient_hooks.undo()
        finally:
            self.changes.undo()

    # For the training loop

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return device_of(self.model) or self.backend.device()

    def to_device(self, *values: Any) -> Any:
        """`values` with every tensor in them on the session's device; one value comes back bare.

        Tensors are found in nested tuples, lists, dicts and dataclasses; other objects that have a
        method `to`, as tokenizers' batches do, are moved by it.
        """
        device = self.device

        def own(leaf: Any) -> Any:
            return leaf.to(device) if hasattr(leaf, "to") else leaf

        moved = tuple(
            map_tensors(lambda tensor: tensor.to(device, non_blocking=True), value, own)
            for value in values
        )
        return moved[0] if len(moved) == 1 else moved

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within, gradients are accumulated on each rank alone, as for all but the last batch.

        The topology reduces what has been accumulated in the next backward outside.
        """
        before, self.synchronising = self.synchronising, False
        try:
            yield
        finally:
            self.synchronising = before

    def report(self) -> Report:
        """What happened so far: printable, and a pydantic model for JSON."""
        return Report(
            model=type(self.model).__name__,
            device=str(self.device),
            steps=self.steps,
            skipped=dict(self.skipped),
            loss_scale=self.loss_scale.value if self.loss_scale else None,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            components=[
                ComponentReport(
                    **_identity(part),
                    given=sorted(part.config.model_fields_set),
                    details=part.report(),
                )
                for part in self.components
            ],
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed session needs beside the model's and the optimizers' own states.

        It records each component's distribution, version and configuration; safe to load with
        `torch.load(..., weights_only=True)`.
        """
        return {
            "format": 1,
            "steps": self.steps,
            "skipped": dict(self.skipped),
            "loss_scale": self.loss_scale.state_dict() if self.loss_scale else None,
            "components": [
                {**_identity(part), "state": part.state_dict()} for part in self.components
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which must come from a session of the same components.

        Raises:
            SessionError: The components differ, or the format is not known; says how.
        """
        if state.get("format") != 1:
            raise SessionError(
                f"This session state has format {state.get('format')!r}, which this ds-core "
                "cannot read.",
                mend="Use the version of ds-core that wrote it.",
            )
        here = [f"{part.kind} {part.name!r}" for part in self.components]
        there = [f"{part['kind']} {part['name']!r}" for part in state["components"]]
        if here != there:
            raise SessionError(
                f"The state was saved with {', '.join(there)}, but this session has "
                f"{', '.join(here)}.",
                mend="Attach the same components.",
            )
        if (state["loss_scale"] is None) != (self.loss_scale is None):
            raise SessionError("Only one of the state and the session has a loss scale.")
        self._wake()
        self.steps = state["steps"]
        self.skipped = Counter(state["skipped"])
        if self.loss_scale is not None:
            self.loss_scale.load_state_dict(state["loss_scale"])
        for part, saved in zip(self.components, state["components"], strict=True):
            part.load_state_dict(saved["state"])

    # For components

    def place(self, device: torch.device) -> None:
        """Move the model and the optimizers' state to `device`, undone by detach."""
        self._moved = place(self.model, self.optimizers, device, self.changes) or self._moved

    def all_reduce(self, tensor: Tensor, op: str = "max") -> Tensor:
        """Have all ranks agree on `tensor`, in place.

        The topology does it; without one, the process group of a model that is wrapped in torch's
        DistributedDataParallel; without that either, each rank is alone.
        """
        done = self.manager.hook.ds_all_reduce(session=self, tensor=tensor, op=op)
        group = process_group(self.model)
        if done is None and group is not None:
            import torch.distributed as dist

            dist.all_reduce(tensor, getattr(dist.ReduceOp, op.upper()), group=group)
        return tensor

    def model_changed(self) -> None:
        """Tell everyone that the model's parameters or structure were replaced."""
        self._wake()
        self._gradient_hooks.undo()
        self._watched = set()
        self._install_gradient_hooks()
        self.manager.hook.ds_model_changed(session=self, model=self.model)

    def plainly(self) -> AbstractContextManager[None]:
        """Within, the model and its modules are of their own classes and forwards.

        For components that follow or rebuild the user's code, such as pruners. A module's class
        may be changed within; whoever set methods on the module is to take it anew, so
        `model_changed` must follow.
        """
        return plainly(self.model.modules())

    def rest(self, part: Component) -> None:
        """Call `part` no more, so that it costs nothing, until there is news for it.

        For a component that has nothing left to do, as a precision policy that found nothing to
        gain. Its functions around the forward and its hooks around steps are left out; it is called
        again once the model changes, a state is loaded, or the session ends.
        """
        if part not in self._resting:
            self._resting.append(part)
            self._listen()

    def _wake(self) -> None:
        if self._resting:
            self._resting = []
            self._listen()

    def _listen(self) -> None:
        """Take note of who is to be called, once, so that nobody is asked for at every step."""
        before, after = (self._caller(name) for name in ("ds_before_step", "ds_after_step"))
        heard = bool(before.get_hookimpls()), bool(after.get_hookimpls())
        self._stepping = _Stepping(before if heard[0] else None, after if heard[1] else None)
        if self._surrounding is not None:
            self._surrounding.set(
                [around for part, around in self._arounds if part not in self._resting]
            )

    def _caller(self, hook: str) -> pluggy.HookCaller:
        return self.manager.subset_hook_caller(hook, self._resting)

    # Forward

    def _surround_forward(self) -> None:
        self._arounds, self._surrounding = [], None
        hook = "ds_around_forward"
        for part in self.components:
            others = [other for other in self.components if other is not part]
            (around,) = self.manager.subset_hook_caller(hook, others)(
                session=self, model=self.model
            ) or (None,)
            if around is not None:
                self._arounds.append((part, around))
        if self.loss_scale is not None:
            inspect = functools.partial(inspect_forward, self.model)
            opaque = functools.partial(check_opaque, self.model)
            scaled = scaled_forward(self.model, self.loss_scale, inspect, opaque)
            self._arounds.insert(0, (None, scaled))
        if self._moved:
            self._arounds.insert(0, (None, check_device(self.device)))
        if self._arounds:
            arounds = [around for _, around in self._arounds]
            self._surrounding = Surrounding(self.model, arounds, self.changes, keep=self)

    # Gradients

    def _install_gradient_hooks(self) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                self._hook_gradient(name, parameter)

    def _hook_gradient(self, name: str, parameter: Parameter) -> None:
        caller = self.manager.hook.ds_parameter_gradient
        functions: list[Callable[[Tensor], Tensor | None]] = []
        if self.loss_scale is not None:
            functions.append(self._watch.on(parameter))
            self._watched.add(id(parameter))
        if caller.get_hookimpls():
            functions += [
                function
                for function in caller(session=self, name=name, parameter=parameter)
                if function is not None
            ]
        if not functions:
            return

        def hook(gradient: Tensor) -> Tensor:
            for function in functions:
                replacement = function(gradient)
                gradient = gradient if replacement is None else replacement
            return gradient

        self._gradient_hooks.add_gradient_hook(parameter, hook)

    # Steps

    def _install_step_hooks(self) -> None:
        watches = self.loss_scale is not None
        self._listen()
        before = watches or self._stepping.before is not None
        after = before or self._stepping.after is not None
        for optimizer in self.optimizers:
            if before:
                self.changes.add_handle(optimizer.register_step_pre_hook(self._before_step))
            self.changes.add_handle(
                optimizer.register_step_post_hook(self._after_step if after else self._count_step)
            )

    def _count_step(self, *arguments: object) -> None:
        self.steps += 1

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._stepping.before is None and self.loss_scale is None:
            return None
        # torch passes the optimizer itself among the arguments of its step.
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._decide(optimizer)
            return None

        def watched() -> Any:
            import torch

            with torch.enable_grad():
                loss = closure()
            self._decide(optimizer)
            return loss

        if len(args) > 1:
            return (args[0], watched, *args[2:]), kwargs
        return args, {**kwargs, "closure": watched}

    def _decide(self, optimizer: Optimizer) -> None:
        reason = None
        if self._stepping.before is not None:
            reasons = self._stepping.before(session=self, optimizer=optimizer)
            reason = next((reason for reason in reasons if reason), None)
        if self.loss_scale is not None and self._overflowed(optimizer):
            reason = OVERFLOW
        if reason is None:
            return
        self._skip = reason
        # A step hook cannot cancel a step, but a step without gradients does nothing at all.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _overflowed(self, optimizer: Optimizer) -> bool:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for parameter in parameters:
            # Unfrozen or added since attach: seen at the step once, and on arrival from now on.
            if parameter.grad is not None and id(parameter) not in self._watched:
                self._watched.add(id(parameter))
                self._gradient_hooks.add_gradient_hook(parameter, self._watch.on(parameter))
        return self._watch.overflowed(
            parameters, self.all_reduce, flagged=bool(self.backend.overflowed())
        )

    def _after_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        skipped, self._skip = self._skip, None
        if skipped:
            self.skipped[skipped] += 1
        else:
            self.steps += 1
        # Several optimizers step for each batch: one of them counts the good ones.
        if self.loss_scale is not None and (skipped or optimizer is self.optimizers[0]):
            self.loss_scale.update(skipped == OVERFLOW)
        if self._stepping.after is not None:
            self._stepping.after(session=self, optimizer=optimizer, skipped=skipped)


def _identity(part: Component) -> dict[str, Any]:
    record = part.record
    return {
        "kind": part.kind,
        "name": part.name,
        "distribution": record.distribution if record else type(part).__module__,
        "version": record.version if record else "",
        "config": part.config.model_dump(mode="json"),
    }


def session_on(model: Module) -> Session | None:
    """The session in effect on exactly this module."""
    return _attached.get(id(model))
