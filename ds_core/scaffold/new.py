"""A new plugin as a folder: all of it, or nothing."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from string import Template

from ds_core.errors import ConfigError
from ds_core.scaffold.names import Names

TEMPLATES = Path(__file__).parent / "templates"
"""`common`, and a folder for each kind; `PACKAGE` in a path stands for the package's name."""

SUFFIX = ".tmpl"
"""Ends the name of each template, which would else be taken for a part of ds-core."""


def render(names: Names) -> dict[str, str]:
    """The text of each file by its path in the new folder, with forward slashes."""
    values = names.values()
    return {
        path.replace("PACKAGE", names.package): Template(text).substitute(values)
        for path, text in sorted(_templates(names.kind))
    }


def create(names: Names, folder: Path) -> Path:
    """Write a plugin into a new folder, called like its distribution, inside `folder`.

    Everything is written beside the place where it is to be, and moved there at the end.

    Returns:
        The new folder.

    Raises:
        ConfigError: There is something already, or the folder cannot be written; nothing is left.
    """
    target = folder / names.distribution
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {str(folder)!r}.", mend="Make it first, or choose another --dir."
        )
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(
                f"{str(target)!r} exists and is not an empty folder.",
                mend="Choose another name or another --dir, or move it away.",
            )
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{names.distribution}-") as beside:
            made = Path(beside, names.distribution)  # a folder with the usual permissions
            for path, text in render(names).items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8", newline="\n")
            if target.exists():
                target.rmdir()
            made.rename(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise ConfigError(
            f"{str(target)!r} cannot be written: {error.strerror or error}; nothing was left.",
            mend="Make room, or choose another --dir." if full else "Choose another --dir.",
        ) from error
    return target


def _templates(kind: str) -> Iterator[tuple[str, str]]:
    for root in (TEMPLATES / "common", TEMPLATES / kind):
        for path in root.rglob(f"*{SUFFIX}"):
            relative = path.relative_to(root).as_posix().removesuffix(SUFFIX)
            yield relative, path.read_text(encoding="utf-8")
