"""All that can be said of one entry point: its distribution, its options, its hooks."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pydantic

from ds_core.components.component import Component, hook_problems
from ds_core.conformance_report import ConformanceReport, last_report
from ds_core.errors import PluginError
from ds_core.hookspecs import PROJECT
from ds_core.registry import Record, Registry
from ds_core.requirement import is_met


class OptionInfo(pydantic.BaseModel):
    """One option of a component."""

    name: str
    type: str
    required: bool
    default: Any = None
    doc: str = ""

    @property
    def shown_default(self) -> str:
        """The default as people type it."""
        return "(required)" if self.required else f"{self.default!r}"


class PluginInfo(pydantic.BaseModel):
    """A record, and what importing it tells."""

    kind: str
    name: str
    distribution: str
    version: str
    summary: str
    home: str
    value: str
    requirement: str
    requirement_met: bool | None
    """None where the distribution states no requirement on ds-core."""
    status: str
    reason: str
    doc: str = ""
    """The first line of its documentation."""
    hooks: tuple[str, ...] = ()
    """The hooks that it implements, in alphabetical order."""
    options: tuple[OptionInfo, ...] = ()
    config_schema: dict[str, Any] | None = None
    """The options' JSON schema; None where it cannot be loaded or has no `Config`."""
    last_report: ConformanceReport | None = None
    """What `ds plugins check` found last on this machine."""


def describe(registry: Registry, record: Record) -> PluginInfo:
    """Load what a record stands for, where that is allowed, and say what it is.

    One that is disabled or needs another ds-core is not imported; one that fails to import is
    described as broken.
    """
    loaded: Any = None
    try:
        loaded = registry.load(record.kind, record.full_name)[1]
    except PluginError:
        record = next(
            now for now in registry.records(record.kind) if now.full_name == record.full_name
        )
    inside: dict[str, Any] = {}
    if loaded is not None:
        inside["doc"] = (inspect.getdoc(loaded) or "").partition("\n\n")[0].replace("\n", " ")
    if isinstance(loaded, type) and issubclass(loaded, Component):
        inside["hooks"] = _hooks(loaded)
        inside["options"] = tuple(_options(loaded.Config))
        inside["config_schema"] = loaded.Config.model_json_schema()
        for problem in hook_problems(loaded):
            record = replace(record, status="broken", reason=str(problem))
            break
    return PluginInfo(
        kind=record.kind,
        name=record.name,
        distribution=record.distribution,
        version=record.version,
        summary=record.summary,
        home=record.home,
        value=record.value,
        requirement=record.requirement,
        requirement_met=is_met(record.requirement) if record.requirement else None,
        status=record.status,
        reason=record.reason,
        last_report=last_report(record),
        **inside,
    )


def _hooks(component: type[Component]) -> tuple[str, ...]:
    found = []
    for attribute in dir(component):
        marks = getattr(inspect.getattr_static(component, attribute), f"{PROJECT}_impl", None)
        if marks is not None:
            found.append(marks.get("specname") or attribute)
    return tuple(found)


def _options(config: type[pydantic.BaseModel]) -> list[OptionInfo]:
    import pydantic_core

    return [
        OptionInfo(
            name=name,
            type=inspect.formatannotation(field.annotation),
            required=field.is_required(),
            default=None
            if field.is_required()
            else pydantic_core.to_jsonable_python(
                field.get_default(call_default_factory=True, validated_data={}), fallback=repr
            ),
            doc=" ".join((field.description or "").split()),
        )
        for name, field in config.model_fields.items()
    ]
