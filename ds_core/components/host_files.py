"""Reading `/proc`, `/sys` and `/dev` under any root, so that probing can be tested on a copy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def read(root: str, path: str, limit: int = 65536) -> str:
    """The first `limit` bytes of `root`/`path` as text; empty where it cannot be read.

    Args:
        root: The folder that stands for `/`.
        path: Relative to `root`, as `proc/meminfo`.
        limit: In bytes. Files in `/proc` are made as they are read, so a small one saves time.
    """
    try:
        with Path(root, path).open("rb") as file:
            return file.read(limit).decode(errors="replace")
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return ""


def names(root: str, path: str) -> list[str]:
    """What the folder `root`/`path` holds, sorted; empty where it cannot be listed."""
    try:
        return sorted(entry.name for entry in Path(root, path).iterdir())
    except (OSError, ValueError):
        return []


def exists(root: str, path: str) -> bool:
    """Whether `root`/`path` is there."""
    try:
        return Path(root, path).exists()
    except (OSError, ValueError):
        return False


def closed(root: str, devices: Iterable[str]) -> list[str]:
    """Which files of `dev` this user may not read and write.

    Args:
        root: The folder that stands for `/`.
        devices: Relative to `dev`, as `kfd` and `dri/renderD128`.
    """
    return [name for name in devices if not os.access(Path(root, "dev", name), os.R_OK | os.W_OK)]


def in_container(root: str) -> bool:
    """Whether this is a container of Docker's or Podman's."""
    return any(exists(root, name) for name in (".dockerenv", "run/.containerenv"))


def fields(text: str) -> dict[str, str]:
    """`key: value` lines up to the first blank one, which is how `/proc` writes records."""
    found = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip()] = " ".join(value.split())
    return found


def number(text: str) -> int | None:
    """The positive integer that `text` begins with, as in `"16 kB"`; None for anything else."""
    digits = text.split(maxsplit=1)[:1]
    if digits and digits[0].isascii() and digits[0].isdigit() and len(digits[0]) <= 20:
        return int(digits[0]) or None
    return None
