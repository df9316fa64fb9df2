"""What a session would use on this machine, and why: the decisions of attaching, without a model.

Every record here is a pydantic model, so that people and programs read the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic

from ds_core.components.backend import Backend, Device, DtypeSupport, Problem
from ds_core.components.component import Component
from ds_core.compose import Composition, compose
from ds_core.config import Choice, Resolved, SessionConfig
from ds_core.errors import BackendError, RefusedError
from ds_core.registry import Registry
from ds_core.selection import Candidate, candidates


class Setting(pydantic.BaseModel):
    """One value and the place that it came from."""

    key: str
    value: Any
    origin: str


class BackendRow(pydantic.BaseModel):
    """An installed backend, as far as it was looked at."""

    name: str
    distribution: str
    version: str
    usable: bool
    chosen: bool
    """The one that is used, or that `auto` would take."""
    reason: str
    devices: tuple[Device, ...] = ()
    memory: int | None = None
    """Bytes on all devices, None where that is not known."""
    driver: str | None = None
    software: dict[str, str] = {}
    problems: tuple[Problem, ...] = ()


class PassRow(pydantic.BaseModel):
    """A component that would be attached, with each of its options."""

    kind: str
    name: str
    distribution: str
    version: str
    origin: str
    settings: tuple[Setting, ...]
    says: tuple[str, ...]
    """What it would do here, in its own words."""


class Need(pydantic.BaseModel):
    """A capability that a component requires, and the component that provides it."""

    component: str
    capability: str
    provider: str


class Explanation(pydantic.BaseModel):
    """The decision tree of one session on this machine.

    After a refusal only `backends`, `settings` and `refusal` are filled in.
    """

    backend: str | None = None
    backend_origin: str
    device: str = ""
    best_dtype: str = ""
    dtypes: dict[str, DtypeSupport] = {}
    backends: tuple[BackendRow, ...]
    passes: tuple[PassRow, ...] = ()
    needs: tuple[Need, ...] = ()
    settings: tuple[Setting, ...]
    refusal: str | None = None


def explain(resolved: Resolved, registry: Registry) -> Explanation:
    """Make what a session would be made of, and tell how it came about.

    Imports torch and activates the backend. Speeds that were never measured on this machine are
    measured, which takes some seconds once.

    Raises:
        UnknownNameError, PluginError, ConfigError: A setting is wrong. Pieces that do not fit
            together are no error here: `refusal` says so.
    """
    found = candidates(registry)
    inside: dict[str, Any] = {}
    try:
        composition = compose(resolved, registry, found=found)
        inside = _decisions(composition, resolved)
    except (RefusedError, BackendError) as refusal:
        inside["refusal"] = str(refusal)
    return Explanation(
        backend_origin=resolved.origin("backend"),
        backends=tuple(backend_row(candidate) for candidate in found),
        settings=tuple(settings_of(resolved)),
        **inside,
    )


def survey(registry: Registry, root: str = "/") -> list[BackendRow]:
    """Every installed backend in the order of rank, the one that `auto` would try first marked.

    Imports torch for none of them.

    Args:
        registry: What is installed.
        root: Where `/sys`, `/proc` and `/dev` are looked for.
    """
    rows = [backend_row(candidate) for candidate in candidates(registry, root)]
    for row in rows:
        if row.usable:
            row.chosen = True
            break
    return rows


def settings_of(resolved: Resolved) -> list[Setting]:
    """Each setting with its origin; a component's options stand under `setting.option`."""
    found = []
    for key in SessionConfig.model_fields:
        value = getattr(resolved.config, key)
        if isinstance(value, Choice):
            found.append(Setting(key=key, value=value.name, origin=resolved.origin(key)))
            found += [
                Setting(
                    key=f"{key}.{option}",
                    value=set_to,
                    origin=resolved.origin(f"{key}.{option}"),
                )
                for option, set_to in value.options.items()
            ]
        else:
            if isinstance(value, tuple):
                value = [_plain(choice) for choice in value]
            found.append(Setting(key=key, value=value, origin=resolved.origin(key)))
    return found


def backend_row(candidate: Candidate) -> BackendRow:
    """A candidate as it is shown."""
    probe = candidate.probe
    return BackendRow(
        name=candidate.record.name,
        distribution=candidate.record.distribution,
        version=candidate.record.version,
        usable=candidate.usable,
        chosen=candidate.chosen,
        reason=candidate.reason,
        memory=candidate.memory or None,
        **(
            {
                "devices": probe.devices,
                "driver": probe.driver,
                "software": probe.software,
                "problems": probe.problems,
            }
            if probe
            else {}
        ),
    )


def _decisions(composition: Composition, resolved: Resolved) -> dict[str, Any]:
    backend = composition.backend
    info = backend.info()
    return {
        "backend": backend.name,
        "device": info.name,
        "best_dtype": info.best,
        "dtypes": info.dtypes,
        "passes": tuple(_pass_row(part, backend, resolved) for part in composition.passes),
        "needs": tuple(_needs([*composition.passes, backend])),
    }


def _pass_row(part: Component, backend: Backend, resolved: Resolved) -> PassRow:
    setting = "observers" if part.kind == "observer" else part.kind
    given = part.config.model_fields_set
    settings = [
        Setting(
            key=option,
            value=value,
            origin=resolved.origin(f"{setting}.{option}") if option in given else "default",
        )
        for option, value in part.config.model_dump(mode="json").items()
    ]
    return PassRow(
        kind=part.kind,
        name=part.name,
        distribution=part.record.distribution if part.record else "",
        version=part.record.version if part.record else "",
        origin=resolved.origin(setting),
        settings=tuple(settings),
        says=tuple(part.explain(backend)),
    )


def _needs(components: Sequence[Component | Backend]) -> list[Need]:
    found = []
    for part in components:
        for capability in sorted(part.requires):
            provider = next(other for other in components if capability in other.provides)
            found.append(
                Need(component=_title(part), capability=capability, provider=_title(provider))
            )
    return found


def _title(part: Component) -> str:
    return f"{part.kind} {part.name}"


def _plain(choice: Choice) -> Any:
    return {"name": choice.name, **choice.options} if choice.options else choice.name
