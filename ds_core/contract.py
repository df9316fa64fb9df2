"""One plugin manager for each session: components in calling order, every call accounted for."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from ds_core import hookspecs
from ds_core.components.component import Component, hook_problems
from ds_core.errors import DsError, HookError
from ds_core.nested import tensors_in
from ds_core.scaling import LossScale

ORDER = ("pruner", "precision", "backend", "topology", "observer", "transform")
"""Kinds in the order in which their hooks are called."""

RESULTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "ds_around_forward": ("a function or None", callable),
    "ds_parameter_gradient": ("a function or None", callable),
    "ds_loss_scale": ("a LossScale or None", lambda result: isinstance(result, LossScale)),
    "ds_before_step": ("a reason or None", lambda result: isinstance(result, str)),
    "ds_all_reduce": ("True or None", lambda result: isinstance(result, bool)),
    "ds_transform": ("a module or None", lambda result: hasattr(result, "forward")),
}
"""What hooks may return."""

TAKEN = {
    "ds_before_step": "The step was not taken. ",
    "ds_after_step": "The step itself was taken. ",
}
"""What became of the step in whose course a hook failed."""

GRADIENT = "the function that ds_parameter_gradient returned"

TRACE_VARIABLE = "DS_TRACE_HOOKS"


def manager_for(components: Iterable[Component]) -> pluggy.PluginManager:
    """A plugin manager with all components registered and their hooks checked.

    Raises:
        HookError: A component has a hook or an argument that no specification knows.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for part in reversed(in_order(components)):  # pluggy calls the last one registered first
        for problem in hook_problems(type(part)):
            raise problem
        manager.register(part, name=f"{part.kind}:{part.name}:{id(part):x}")
        for caller in manager.get_hookcallers(part) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is part:
                    wrapped = guarded(part, caller.name, implementation.function)
                    # Final for type checkers, but the one place where every call passes.
                    object.__setattr__(implementation, "function", wrapped)
    return manager


def in_order(components: Iterable[Component]) -> list[Component]:
    """Components in the order in which their hooks are called."""
    return sorted(components, key=lambda part: ORDER.index(part.kind))


def guarded(part: Component, hook: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with its failures named after the component and, if asked for, its calls traced.

    A gradient function that it returns is guarded alike; forwards are not, as they are traced by
    `torch.compile` and full of the user's own code.
    """
    trace = os.environ.get(TRACE_VARIABLE) == "1"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            result = function(*args, **kwargs)
            _check_result(part, hook, result)
            if hook == "ds_parameter_gradient" and result is not None:
                return guarded(part, GRADIENT, _same_form(part, result))
            return result
        except DsError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}".rstrip(".")
            raise HookError(
                f"{part.kind} {part.name!r} failed in {hook}: {said}.",
                mend=TAKEN.get(hook, "") + _whose(part),
            ) from error
        finally:
            if trace:
                _print(part, hook, args, time.perf_counter() - start)

    return call


def _check_result(part: Component, hook: str, result: Any) -> None:
    """Name a result of the wrong kind where it arises, not where it is used."""
    if result is None or hook not in RESULTS:
        return
    what, fits = RESULTS[hook]
    if not fits(result):
        raise HookError(
            f"{part.kind} {part.name!r} returned {type(result).__name__} from {hook}, which takes "
            f"{what}.",
            mend=_whose(part),
        )


def _same_form(part: Component, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose result must have the form of the gradient that it was given."""

    def checked(gradient: Any) -> Any:
        result = function(gradient)
        form = (gradient.shape, gradient.dtype, gradient.device)
        if result is not None and (result.shape, result.dtype, result.device) != form:
            raise HookError(
                f"{part.kind} {part.name!r} made of a gradient of shape {tuple(gradient.shape)} "
                f"and {gradient.dtype} one of shape {tuple(result.shape)} and {result.dtype}.",
                mend=_whose(part),
            )
        return result

    return checked


def _whose(part: Component) -> str:
    if part.record is None:
        return f"It was made by hand, from {type(part).__module__}."
    home = f" ({part.record.home})" if part.record.home else ""
    return f"Tell the authors of {part.record.distribution} {part.record.version}{home}."


def _print(part: Component, hook: str, args: tuple[Any, ...], seconds: float) -> None:
    shown = []
    for arg in args:
        tensors = list(tensors_in(arg))
        if tensors:
            shown += [f"{str(t.dtype).removeprefix('torch.')}{list(t.shape)}" for t in tensors]
        else:
            shown.append(arg if isinstance(arg, str) else type(arg).__name__)
    line = f"{hook} {part.kind}:{part.name} ({', '.join(shown)}) {seconds * 1e6:.0f} us"
    sys.stderr.write(line + "\n")
