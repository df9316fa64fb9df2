"""Which plugins may be loaded: what is off, what is allowed, and where that is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ds_core.errors import ConfigError, nearest
from ds_core.settings_files import file_layers

VARIABLE = "DS_DISABLE_PLUGINS"


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own configuration file, under `DS_CONFIG_DIR` or where the platform wants it."""
    if folder := environ.get("DS_CONFIG_DIR"):
        return Path(folder) / "config.toml"
    import platformdirs

    return Path(platformdirs.user_config_dir("ds-core")) / "config.toml"


@dataclass(frozen=True)
class Switches:
    """Names of plugins that are off, each with the place that says so.

    A name is that of a component, of a distribution, or `distribution:component`.
    """

    off: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names by the file that lists them; where there are several lists, all must have a name."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> Switches:
        """From `DS_DISABLE_PLUGINS`, the user's configuration file, ds.toml and pyproject.toml.

        The user's file says `plugins.disabled = [...]`; all three may say `plugins.allow = [...]`.

        Args:
            environ: Variables to read.
            folder: Where to look for ds.toml and pyproject.toml; the working directory, unless
                given.

        Raises:
            ConfigError: A file is there but cannot be read, or is not of this form.
        """
        path = config_file(environ)
        off = {name: str(path) for name in disabled(path)}
        names = environ.get(VARIABLE, "").split(",")
        off |= {name.strip(): VARIABLE for name in names if name.strip()}
        tables = {str(path): _table(path)}
        for layer in file_layers(Path.cwd() if folder is None else folder):
            tables[layer.label] = layer.values.get("plugins")
            _check_keys(layer.label, tables[layer.label], ("allow",))
        return cls(
            off,
            {
                place: frozenset(_list(Path(place), table, "allow"))
                for place, table in tables.items()
                if isinstance(table, Mapping) and "allow" in table
            },
        )

    def unlisted(self, name: str, distribution: str) -> str | None:
        """The file whose list a component is not on; None where it may be loaded."""
        forms = {f"{distribution}:{name}", name, distribution}
        return next((place for place, names in self.allowed.items() if not forms & names), None)

    def switch(self, name: str, distribution: str) -> tuple[str, str] | None:
        """What switches a component off, as the name that is off and the place that says so."""
        for key in (f"{distribution}:{name}", name, distribution):
            if key in self.off:
                return key, self.off[key]
        return None


def disable(name: str) -> Path:
    """Switch `name` off in the user's configuration file; returns the file."""
    return _rewrite(lambda names: names if name in names else [*names, name])


def enable(name: str) -> Path:
    """Take `name` off the user's list again; returns the file."""
    return _rewrite(lambda names: [other for other in names if other != name])


def disabled(path: Path) -> list[str]:
    """The names that a user's configuration file switches off.

    Raises:
        ConfigError: The file is there but cannot be read.
    """
    return _list(path, _table(path), "disabled")


def _table(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}.", mend="Mend or delete it.") from None
    import tomllib  # only now, as most users have no such file

    try:
        table = tomllib.loads(text).get("plugins")
        _check_keys(str(path), table, ("allow", "disabled"))
        return table
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Cannot read {path}: {error}.", mend="Mend or delete it.") from None


def _check_keys(place: str, table: Any, known: tuple[str, ...]) -> None:
    # A list that is misspelt must not leave everything allowed.
    for key in table if isinstance(table, Mapping) else ():
        if key not in known:
            raise ConfigError(
                f"There is no setting plugins.{key} in this file.",
                mend=nearest(key, known) or f"There is: {', '.join(known)}.",
                where=place,
            )


def _list(path: Path, table: Any, key: str) -> list[str]:
    table = {} if table is None else table
    names = table.get(key, []) if isinstance(table, Mapping) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: plugins.{key} must be a list of names.")
    return names


def _rewrite(change: Callable[[list[str]], list[str]]) -> Path:
    import tomlkit

    path = config_file()
    names = change(disabled(path))
    try:
        document = tomlkit.parse(path.read_text()) if path.exists() else tomlkit.document()
        document.setdefault("plugins", tomlkit.table())["disabled"] = names
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the file, so that a full disk leaves the old one whole.
        fresh = path.with_suffix(".new")
        fresh.write_text(tomlkit.dumps(document))
        fresh.replace(path)
    except OSError as error:
        raise ConfigError(
            f"Cannot write {path}: {error.strerror}.", mend="Set DS_CONFIG_DIR to another folder."
        ) from None
    return path
