"""`attach`: from names and settings to a session in effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_core.components.component import Component
from ds_core.compose import Composition, compose
from ds_core.config import Resolved, SessionConfig, resolve
from ds_core.errors import ConfigError
from ds_core.placement import device_of
from ds_core.registry import installed
from ds_core.selection import AUTO
from ds_core.session import Session, session_on
from ds_core.subjects import check_subjects, unwrapped

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

Wanted = str | Mapping[str, Any] | Component | None
"""A component by name, by a mapping of name and options, or itself."""


def attach(
    model: Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    backend: Wanted = AUTO,
    precision: Wanted = None,
    pruner: Wanted = None,
    topology: Wanted = None,
    observers: Sequence[Wanted] | str | None = (),
    config: Mapping[str, Any] | SessionConfig | str | Path | None = None,
) -> Session:
    """Apply passes to a model and its optimizers, in place, and leave the training loop alone.

    Args:
        model: The module whose forward the loop calls; `torch.compile`d before or after.
        optimizer: One, several, or None where the model is only used.
        backend: `auto` stays where the model is if that is an accelerator, and takes the best
            usable hardware otherwise.
        precision: Which dtype each layer computes in.
        pruner: Which weights or channels remain.
        topology: How gradients travel between ranks.
        observers: Who watches.
        config: Settings that the arguments above do not give: a mapping, or a TOML file to read in
            place of the ds.toml and pyproject.toml found from the working directory upwards.

    Returns:
        The session in effect.

    Raises:
        DsError: One sentence that says what is wrong and what to do; nothing was changed.

    A model that has a session without an optimizer, as `load_model` makes one, may be attached with
    one: the earlier session is detached, and its components are used again for every kind that
    this call leaves open.
    """
    model = unwrapped(model)
    check_subjects(model, optimizer)
    given: list[Component] = []
    arguments: dict[str, Any] = {}
    if observers is None:
        observers = ()
    if isinstance(observers, str):
        observers = [name.strip() for name in observers.split(",")]
    if isinstance(observers, Component | Mapping):
        observers = [observers]
    for kind, wanted in (
        ("backend", None if backend == AUTO else backend),
        ("precision", precision),
        ("pruner", pruner),
        ("topology", topology),
    ):
        if isinstance(wanted, Component):
            _check_kind(wanted, kind)
            given.append(wanted)
        elif not isinstance(wanted, str | Mapping | None):
            raise ConfigError(
                f"{kind} cannot be {wanted!r}.",
                mend='Give a name ("bf16"), a mapping of name and options, or a component.',
            )
        elif wanted is not None:
            arguments[kind] = wanted
    named = []
    for observer in observers:
        if isinstance(observer, Component):
            _check_kind(observer, "observer")
            given.append(observer)
        else:
            named.append(observer)
    arguments["observers"] = named
    resolved = resolve(
        arguments,
        mapping=config.model_dump(exclude_unset=True)
        if isinstance(config, SessionConfig)
        else config
        if isinstance(config, Mapping)
        else None,
        file=Path(config) if isinstance(config, str | Path) else None,
    )
    device = device_of(model)
    held = _giving_way(model, optimizer)
    if held is not None:
        told = _told(resolved, given, config)
        if device is not None and device.type != held.backend.device_type:
            told.add("backend")  # the user moved the model since
        given += [part for part in held.components if _setting(part) not in told]
        resolved = replace(resolved, config=_only(resolved.config, told, held.total_steps))
    composition = compose(
        resolved,
        installed(),
        given=given,
        device_type=device.type if device is not None and device.type != "cpu" else None,
    )
    return attach_composed(model, optimizer, composition, resolved.config.total_steps)


def attach_composed(
    model: Module,
    optimizer: Optimizer | Sequence[Optimizer] | None,
    composition: Composition,
    total_steps: int | None,
) -> Session:
    """A session of components that fit together, in effect on `model`.

    A session that was there without an optimizer gives way to one that has one, and is back where
    that one cannot attach.
    """
    session = Session(
        model,
        optimizer,
        backend=composition.backend,
        passes=composition.passes,
        total_steps=total_steps,
    )
    held = _giving_way(model, optimizer)
    if held is None:
        session.attach()
    else:
        held.detach()
        try:
            session.attach()
        except BaseException:
            _keep(held.attach())
            raise
    if not session.optimizers and composition.passes:
        _keep(session)
    return session


def session_of(model: Module) -> Session | None:
    """The session that is in effect on a model, or None."""
    return session_on(unwrapped(model))


def _giving_way(model: Module, optimizer: Optimizer | Sequence[Optimizer] | None) -> Session | None:
    """The session without an optimizer on `model` that one with an optimizer replaces."""
    held = session_on(model)
    return held if held and not held.optimizers and optimizer else None


def _told(resolved: Resolved, given: Sequence[Component], config: Any) -> set[str]:
    """The settings that this call makes itself.

    Files that lie about and variables do not count: they were read for the earlier session too.
    """
    here = ("argument", "config", *([str(config)] if isinstance(config, str | Path) else []))
    return {_setting(part) for part in given} | {
        key for key in SessionConfig.model_fields if resolved.origin(f"{key}.name").startswith(here)
    }


def _setting(part: Component) -> str:
    return "observers" if part.kind == "observer" else part.kind


def _only(config: SessionConfig, told: set[str], total_steps: int | None) -> SessionConfig:
    """`config` without what it has from elsewhere, which the earlier session decided."""
    defaults = {key: field.default for key, field in SessionConfig.model_fields.items()}
    earlier = {**defaults, "total_steps": total_steps}
    return config.model_copy(update={key: earlier[key] for key in earlier if key not in told})


def _keep(session: Session) -> None:
    """Have a session live as long as its model, which nothing else may hold on to."""
    session.changes.set_methods(session.model, _session=lambda model: session)


def _check_kind(component: Component, kind: str) -> None:
    if component.kind != kind:
        raise ConfigError(
            f"{component!r} is a {component.kind}, not a {kind}.",
            mend=f"Pass it as {component.kind}=.",
        )
