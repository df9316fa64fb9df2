"""Every hook of the ecosystem.

A component implements a hook by marking a method of the same name with
[`hookimpl`][ds_core.hookspecs.hookimpl]. It may leave out arguments that it does not need and
must not add any. A session calls hooks in the order in which they stand in this file, and within
one hook in the order pruner, precision, backend, topology, observer: shape first, then dtype, then
place, then communication, then whoever watches.

Two rules keep sessions cheap and reversible:

* **What runs in the hot path is asked for once.** `ds_around_forward` and `ds_parameter_gradient`
  are called at attach and return the function that will run every step, so neither a forward nor
  a gradient ever passes through the plugin manager, and `torch.compile` traces plain functions.
* **What is changed is recorded.** A hook changes the user's objects through `session.changes`,
  which detaching rolls back in reverse order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

    from ds_core.scaling import LossScale
    from ds_core.session import Session

PROJECT = "ds_core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a component as the implementation of the hook that it is named after."""

Around = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""`around(call, args, kwargs) -> output`: runs `call(*args, **kwargs)` and what surrounds it."""

GradientHook = Callable[["Tensor"], "Tensor | None"]
"""`hook(gradient) -> gradient or None`: a replacement, or None to leave it as it is."""


# Once, when a session attaches


@hookspec
def ds_session_start(session: Session) -> None:
    """Called first, before anything is changed.

    May inspect everything and may refuse by raising `RefusedError`; must change nothing.
    """


@hookspec
def ds_join(session: Session) -> None:
    """Join the other ranks of the job; a topology implements it.

    Called before anything else is changed. Where a process group is there afterwards, the session
    compares its components with rank 0's, and refuses on all ranks where one differs. A group that
    the component made itself is destroyed through `session.changes`.
    """


@hookspec
def ds_prepare_model(session: Session, model: Module) -> None:
    """Change the model in place, through `session.changes`.

    Module identity and `state_dict` keys must stay as they are.
    """


@hookspec
def ds_prepare_optimizer(session: Session, optimizer: Optimizer) -> None:
    """Change one optimizer in place, through `session.changes`; called once for each."""


@hookspec(firstresult=True)
def ds_loss_scale(session: Session) -> LossScale | None:
    """Offer the loss scale for 16-bit gradients; the first one offered is used.

    The session multiplies gradients by it where they enter the model's outputs and divides where
    they leave through parameters and inputs, skips steps that overflowed and updates the scale.
    Asked for only where there is an optimizer.
    """


@hookspec
def ds_around_forward(session: Session, model: Module) -> Around | None:
    """Return a function that surrounds every forward of the model, or None.

    The functions nest in calling order, the first one outermost. They are traced by
    `torch.compile`, so they should be plain: enter a context, call, return.
    """


@hookspec
def ds_parameter_gradient(session: Session, name: str, parameter: Parameter) -> GradientHook | None:
    """Return a function that sees each gradient of one parameter, or None.

    It receives true (unscaled) gradients of the parameter's shape and dtype, before they are
    accumulated, and may return a replacement. Called once for each parameter that trains.
    """


# Around every optimizer step


@hookspec
def ds_before_step(session: Session, optimizer: Optimizer) -> str | None:
    """Called with all gradients in place; return a reason to have this step skipped.

    A skipped step changes neither parameters nor optimizer state, and is counted under its reason.
    """


@hookspec
def ds_after_step(session: Session, optimizer: Optimizer, skipped: str | None) -> None:
    """Called after a step; `skipped` is the reason where it did not take place."""


# When they are needed


@hookspec(firstresult=True)
def ds_all_reduce(session: Session, tensor: Tensor, op: str) -> bool | None:
    """Reduce a small tensor of decisions over all ranks, in place; `op` is `sum`, `max` or `min`.

    The session's topology implements it and returns True; without one, each rank is alone.
    """


@hookspec
def ds_model_changed(session: Session, model: Module) -> None:
    """The model's structure or parameters were replaced in mid-training.

    Called on all components after one of them called `session.model_changed()`; whoever holds
    parameters or sizes takes them anew. Gradient hooks have been asked for again already.
    """


@hookspec(firstresult=True)
def ds_transform(session: Session, model: Module, example_inputs: tuple[Any, ...]) -> Module | None:
    """Return a faster or smaller model that computes the same; it may be another object.

    Called by `ds_core.transform` and `ds_core.load_model`, never on a model that is being trained.
    """


@hookspec
def ds_session_end(session: Session) -> None:
    """Called when a session detaches, before its changes are rolled back."""
