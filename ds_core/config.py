"""Settings of a session: what there is, where it may stand, and where each value came from.

Later wins: built-in defaults, `[tool.ds]` in pyproject.toml, `ds.toml`, `DS_*` variables, command
options, arguments in code. Files are looked for in the working directory and then upwards.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from ds_core.components.component import config_error
from ds_core.errors import ConfigError, nearest
from ds_core.settings_files import OPTION, Layer, file_layers, named_layer

NONE = "none"
"""As a component's name: none, even where an earlier place names one."""

COMPONENTS = ("backend", "precision", "pruner", "topology")
"""Settings that name one component."""

PLUGINS = "plugins"
"""A table of the files that is about what may be loaded; see `ds_core.switches`."""

RESERVED = {
    "DS_CACHE_DIR",
    "DS_CONFIG_DIR",
    "DS_DEBUG",
    "DS_DISABLE_PLUGINS",
    "DS_NODE",
    "DS_STATE_DIR",
    "DS_TRACE_HOOKS",
}
"""Variables that are no session setting."""


class Choice(pydantic.BaseModel):
    """A component by name, with its options."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name; the component's own `Config` checks it."""
        return dict(self.model_extra or {})


class SessionConfig(pydantic.BaseModel):
    """What a session is made of. A bare name stands for `{"name": ...}`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    backend: Choice = Choice(name="auto")
    """The hardware; `auto` takes the best that is usable here."""
    precision: Choice | None = None
    """Which dtype each layer computes in."""
    pruner: Choice | None = None
    """Which weights or channels remain."""
    topology: Choice | None = None
    """How gradients travel between ranks."""
    observers: tuple[Choice, ...] = ()
    """Who watches."""
    transforms: tuple[Choice, ...] = ()
    """Applied by `load_model`, in this order."""
    total_steps: int | None = pydantic.Field(default=None, ge=1)
    """Length of the training in optimizer steps, for passes that follow a schedule."""

    @pydantic.field_validator("backend", "precision", "pruner", "topology", mode="before")
    @classmethod
    def _name_to_choice(cls, value: Any) -> Any:
        if value == NONE or (isinstance(value, Mapping) and value.get("name") == NONE):
            return None
        return {"name": value} if isinstance(value, str) else value

    @pydantic.field_validator("observers", "transforms", mode="before")
    @classmethod
    def _names_to_choices(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [name.strip() for name in value.split(",")]
        if isinstance(value, list | tuple):
            value = [] if list(value) == [NONE] else value
            return [{"name": item} if isinstance(item, str) else item for item in value]
        return value


@dataclass(frozen=True)
class Resolved:
    """A configuration, and the origin of each value that is not a default, by dotted name."""

    config: SessionConfig
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Where `key` or the setting that holds it was given."""
        while key:
            for known in (key, f"{key}.name"):
                if known in self.origins:
                    return self.origins[known]
            key = key.rpartition(".")[0]
        return "default"

    def place(self, key: str) -> str:
        """The file and line or the variable that gave `key`; empty for code and options."""
        origin = self.origin(key)
        return origin if ":" in origin or origin.startswith("DS_") else ""


def resolve(
    arguments: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    mapping: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Resolved:
    """Merge all places that settings come from.

    Args:
        arguments: Settings given in code; None values count as not given.
        options: Settings given on the command line, likewise.
        mapping: Settings given in code as one mapping, which `arguments` override.
        folder: Where to look for files; the working directory unless given.
        file: The one file to read in place of those.
        environ: Variables to read.

    Raises:
        ConfigError: Names the setting, where it stands and the nearest valid name.
    """
    layers = [
        *(
            file_layers(Path.cwd() if folder is None else folder)
            if file is None
            else [named_layer(file)]
        ),
        Layer(_from_environment(environ), "DS_*"),
        Layer(_given(options), OPTION),
        Layer(_given(mapping), "config"),
        Layer(_given(arguments), "argument"),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.values.items():
            if key == PLUGINS and layer.lines:
                continue
            if key not in SessionConfig.model_fields:
                raise _unknown(key, layer)
            _merge(merged, origins, key, value, layer)
    _check_names(merged, origins)
    try:
        return Resolved(SessionConfig.model_validate(merged), origins)
    except pydantic.ValidationError as error:
        path = ".".join(str(part) for part in error.errors()[0]["loc"])
        where = Resolved(SessionConfig(), origins).origin(path)
        raise config_error(error, SessionConfig, "Session", where) from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    known = {f"DS_{field.upper()}" for field in SessionConfig.model_fields}
    for variable in sorted(environ):
        # An empty variable is how scripts unset one for a single command.
        if not variable.startswith("DS_") or variable in RESERVED or not environ[variable]:
            continue
        head, _, option = variable.partition("__")
        if head not in known:
            # Other software uses this prefix too: speak up only about a likely slip.
            if difflib.get_close_matches(head, known | RESERVED, n=1, cutoff=0.85):
                raise ConfigError(
                    "No such setting.", mend=nearest_variable(head, known), where=variable
                )
            continue
        field, text = head.removeprefix("DS_").lower(), environ[variable]
        if option:
            held = values.setdefault(field, {})
            if isinstance(held, str):
                held = values[field] = {"name": held}
            held[option.lower()] = parse_value(text)
        else:  # sorted, so that it comes before its options
            values[field] = text
    return values


def nearest_variable(name: str, known: set[str]) -> str:
    """The clause that names the variable meant."""
    found = difflib.get_close_matches(name, sorted(known | RESERVED), n=1, cutoff=0.85)
    return f"Did you mean {found[0]!r}?" if found else ""


def parse_value(text: str) -> Any:
    """What a variable or an option says: JSON where it is that, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _given(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value not in (None, (), [])}


def _merge(
    merged: dict[str, Any], origins: dict[str, str], key: str, value: Any, layer: Layer
) -> None:
    """Lay one setting over earlier ones: options add up while the component stays the same."""
    if key not in COMPONENTS or not isinstance(value, str | Mapping):
        _forget(origins, key)
        merged[key], origins[key] = value, layer.origin(key)
        return
    new = {"name": value} if isinstance(value, str) else dict(value)
    held = merged.get(key, {})
    # Options may come before the name that they are for: DS_PRUNER__SPARSITY, and a name in code.
    if held.get("name", new.get("name")) != new.get("name", held.get("name")):
        _forget(origins, key)
        held = {}
    merged[key] = {**held, **new}
    if isinstance(value, str):
        origins[f"{key}.name"] = layer.origin(key)
    else:
        origins.update({f"{key}.{option}": layer.origin(f"{key}.{option}") for option in new})


def _check_names(merged: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Refuse options of a component that nobody names."""
    for key in COMPONENTS:
        value = merged.get(key)
        if isinstance(value, dict) and "name" not in value:
            if key == "backend":
                value["name"] = "auto"
                continue
            raise ConfigError(
                f"{key!r} has options but no name.",
                mend=f'Say which, as {key} = {{name = "..."}}.',
                where=origins[f"{key}.{next(iter(value))}"],
            )


def _forget(origins: dict[str, str], key: str) -> None:
    """Forget where the options of a component came from that another has replaced."""
    for known in [name for name in origins if name == key or name.startswith(f"{key}.")]:
        del origins[known]


def _unknown(key: str, layer: Layer) -> ConfigError:
    known = list(SessionConfig.model_fields)
    return ConfigError(
        f"There is no setting {key!r}.",
        mend=nearest(key, known) or f"Settings: {', '.join(known)}.",
        where=layer.origin(key),
    )
