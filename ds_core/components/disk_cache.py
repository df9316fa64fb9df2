"""Small results kept on disk between runs. A cache that cannot be used is as good as none."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def folder() -> Path | None:
    """`DS_CACHE_DIR`, or the user's cache folder for ds-core; None where there is no home."""
    chosen = os.environ.get("DS_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    usual = Path(platformdirs.user_cache_dir("ds-core"))
    return usual if usual.is_absolute() else None


def load(name: str) -> str | None:
    """The text stored under the file name `name`; None where there is none or it is unreadable."""
    base = folder()
    if base is None:
        return None
    try:
        return (base / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def store(name: str, text: str) -> None:
    """Keep `text` under the file name `name`, whole or not at all; silently not where it cannot.

    Several processes may store at once: each writes a file of its own and renames it.
    """
    base = folder()
    if base is None:
        return
    temporary = None
    try:
        base.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=base)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(base / name)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
