"""Where running sessions are registered: a folder that only its user can enter."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from ds_core.errors import RefusedError


def runtime_folder(*, make: bool = False) -> Path:
    """The folder of this user's running sessions.

    Args:
        make: Whether it is made where it is missing.

    Raises:
        RefusedError: Somebody else owns it or can write to it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = (
        Path(base, "ds-inspector") if base else Path(tempfile.gettempdir(), f"ds-inspector-{user}")
    )
    if make:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    # In a folder that all may write to, anybody could have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
        raise RefusedError(
            f"{path} is not a folder that only you can enter.", mend="Remove it, or chmod 700."
        )
    return path
