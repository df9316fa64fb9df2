"""The files that settings stand in, read without pydantic, as listing plugins needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core.errors import ConfigError

OPTION = "option"
"""The label of what was given on the command line."""


@dataclass(frozen=True)
class Layer:
    """One place that settings come from."""

    values: Mapping[str, Any]
    label: str
    lines: tuple[str, ...] = ()
    table: str = ""

    def origin(self, key: str) -> str:
        """The place of `key` for people: a file and line, a variable, an option, `argument`."""
        if self.lines:
            return f"{self.label}:{_line(self.lines, self.table, key)}"
        if self.label == OPTION:
            setting, _, option = key.partition(".")
            named = option in ("", "name") and setting not in ("transforms", "total_steps")
            return f"option --{setting.removesuffix('s')}" if named else f"option --set {key}"
        # A component's name stands in the setting's own variable.
        return self.label.replace("*", key.removesuffix(".name").replace(".", "__").upper())


def file_layers(folder: Path) -> list[Layer]:
    """The nearest pyproject.toml with `[tool.ds]` and ds.toml, from `folder` upwards."""
    layers: list[Layer] = []
    for name, table in (("pyproject.toml", "tool.ds"), ("ds.toml", "")):
        for place in (folder, *folder.parents):
            layer = _read(place / name, table)
            if layer is not None:
                layers.append(layer)
                break
    return layers


def named_layer(file: Path) -> Layer:
    """The settings of one file.

    Raises:
        ConfigError: It does not exist, has no settings of ours, or cannot be read.
    """
    layer = _read(file, "tool.ds" if file.name == "pyproject.toml" else "")
    if layer is None:
        raise ConfigError("There is no such configuration.", where=str(file))
    return layer


def _read(path: Path, table: str) -> Layer | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot be read: {error}.", where=str(path)) from None
    if table and not re.search(r"\bds\b", text):
        return None  # most projects' files say nothing of ours; parsing them takes its time
    import tomllib

    try:
        values: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if table and f"[{table}" not in text:
            return None  # a file of another tool; not ours to judge
        raise ConfigError(f"Not valid TOML: {error}.", where=str(path)) from None
    for part in table.split(".") if table else ():
        values = values.get(part) if isinstance(values, dict) else None
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ConfigError(f"{table} must be a table.", where=str(path))
    return Layer(values, str(path), tuple(text.splitlines()), table)


def _line(lines: tuple[str, ...], table: str, key: str) -> int:
    """The line on which a dotted key is set, or else its table begins, counted from 1."""
    path = [*(table.split(".") if table else ()), *key.split(".")]
    here: list[str] = []
    best = 1
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            here = [part.strip(" \"'") for part in header[1].split(".")]
            if here == path[: len(here)]:
                best = number
        elif setting := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            full = here + [part.strip(" \"'") for part in setting[1].split(".")]
            if full == path:
                return number
            if full == path[: len(full)]:
                best = number
    return best
