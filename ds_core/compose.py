"""From settings to components that fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ds_core.components.backend import Backend
from ds_core.components.component import Component, hook_problems
from ds_core.config import Choice, Resolved
from ds_core.errors import ConfigError, PluginError, RefusedError, UnknownNameError
from ds_core.loading import load_component
from ds_core.registry import Registry
from ds_core.selection import AUTO, Candidate, choose

BEST = "best"
"""As a component's name: the installed one of its kind with the highest rank."""

PASS_KINDS = ("pruner", "precision", "topology", "observer")


@dataclass
class Composition:
    """The components of a session, with the reasons for its backend."""

    backend: Backend
    passes: list[Component] = field(default_factory=list)
    ranking: list[Candidate] = field(default_factory=list)


def compose(
    resolved: Resolved,
    registry: Registry,
    *,
    given: Sequence[Component] = (),
    device_type: str | None = None,
    found: list[Candidate] | None = None,
) -> Composition:
    """Make the components that the settings name and check that they fit.

    Args:
        resolved: The settings.
        registry: What is installed.
        given: Components made by hand, which take the place of the settings of their kind.
        device_type: Where the model already is, if that is not the CPU.
        found: Backends looked at already, whose reasons are then filled in even on a refusal.

    Raises:
        UnknownNameError: A name that nothing answers to.
        ConfigError: An option that a component does not have.
        RefusedError: The components do not fit together or not on this hardware.
    """
    config = resolved.config
    passes: list[Component] = [part for part in given if not isinstance(part, Backend)]
    kinds = {part.kind for part in passes} - {"observer"}
    for kind in ("pruner", "precision", "topology"):
        choice: Choice | None = getattr(config, kind)
        if choice is not None and kind not in kinds:
            passes.append(make(registry, kind, choice, resolved))
    passes += [
        make(registry, "observer", choice, resolved, "observers") for choice in config.observers
    ]
    passes.sort(key=lambda part: PASS_KINDS.index(part.kind))
    backends = [part for part in given if isinstance(part, Backend)]
    if backends:
        backends[0].activate()
        composition = Composition(backends[0], passes)
    else:
        requires = frozenset().union(*(part.requires for part in passes))
        options = None
        if config.backend.options and config.backend.name == AUTO:
            raise ConfigError(
                f"Options are given for backend {AUTO!r}, which may be any.",
                mend="Name the backend that they are for.",
                where=resolved.place(f"backend.{next(iter(config.backend.options))}"),
            )
        if config.backend.options:
            backend_class = load_component(registry, "backend", config.backend.name)[1]
            try:
                options = backend_class.parse(config.backend.options)
            except ConfigError as error:
                where = resolved.place(f"backend.{error.option}")
                raise ConfigError(error.what, mend=error.mend, where=where) from None
        backend, ranking = choose(
            registry,
            config.backend.name,
            requires=requires,
            device_type=device_type,
            config=options,
            found=found,
        )
        composition = Composition(backend, passes, ranking)
    check_fit([*passes, composition.backend])
    return composition


def make(
    registry: Registry,
    kind: str,
    choice: Choice,
    resolved: Resolved | None = None,
    setting: str = "",
) -> Component:
    """One component from its name and options.

    Args:
        registry: What is installed.
        kind: What it must be.
        choice: Its name, or `best`, and its options.
        resolved: The settings that it stands in; an error then says where.
        setting: The one that it stands in, unless that is called like its kind.

    Raises:
        UnknownNameError: Nothing installed is called that.
        PluginError: It cannot be loaded, or is no component of this kind.
        ConfigError: It has no such option, or the option cannot have this value.
    """
    name = best(registry, kind) if choice.name == BEST else choice.name
    try:
        record, made = load_component(registry, kind, name)
        component = made(**choice.options)
    except (ConfigError, UnknownNameError) as error:
        option = f".{error.option}" if isinstance(error, ConfigError) and error.option else ""
        where = resolved.place((setting or kind) + option) if resolved else ""
        raise type(error)(error.what, mend=error.mend, where=where or error.where) from None
    component.record = record
    for problem in hook_problems(made):
        raise problem
    return component


def best(registry: Registry, kind: str) -> str:
    """The full name of the installed component with the highest rank; broken ones do not count.

    Raises:
        UnknownNameError: None of that kind can be loaded.
    """
    ranked: list[tuple[int, str]] = []
    for record in registry.records(kind):
        try:
            made = load_component(registry, kind, record.full_name)[1]
            ranked.append((made.rank, record.full_name))
        except PluginError:
            continue
    if not ranked:
        raise UnknownNameError(
            f"No {kind} is installed that can be loaded.", mend="See `ds plugins list`."
        )
    return max(ranked)[1]


def check_fit(components: Sequence[Component]) -> None:
    """Refuse what cannot work together, before anything is changed.

    Raises:
        RefusedError: One sentence that names the components and the capability.
    """
    for kind in ("backend", "pruner", "precision", "topology"):
        same = [part for part in components if part.kind == kind]
        if len(same) > 1:
            names = " and ".join(repr(part.name) for part in same)
            raise RefusedError(f"A session has one {kind}, not {names}.", mend="Choose one.")
    for part in components:
        if not part.requires and not part.conflicts:
            continue  # asking a backend what it provides may mean measuring it
        others = [other for other in components if other is not part]
        offered: dict[str, Any] = {need: other for other in others for need in other.provides}
        for need in sorted(part.requires - part.provides):
            if need not in offered:
                raise RefusedError(
                    f"{part.kind} {part.name!r} needs {need}, which nothing here provides.",
                    mend=_offers(need, offered),
                )
        for clash in sorted(part.conflicts & set(offered)):
            other = offered[clash]
            raise RefusedError(
                f"{part.kind} {part.name!r} cannot work with {other.kind} {other.name!r}: {clash}.",
                mend="Leave one of them out.",
            )


def _offers(need: str, offered: dict[str, Any]) -> str:
    family = need.partition(":")[0] + ":"
    same = sorted(other.removeprefix(family) for other in offered if other.startswith(family))
    return f"Provided here: {family.removesuffix(':')} {', '.join(same)}." if same else ""
