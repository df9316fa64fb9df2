"""What the kernel tells in files."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str | None:
    """A file's text without spaces around it; None where it is absent or cannot be read now.

    sysfs refuses to read what has no meaning at the moment, such as the speed of a link that is
    down.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def number(path: Path) -> int | None:
    """A file's whole number."""
    text = read(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def names(path: Path) -> list[str]:
    """What is in a folder, sorted; nothing where it is absent."""
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []


def bond_master(path: Path) -> bool:
    """Whether a network interface is one of a bond's, which has its own addresses."""
    return (path / "master").exists()
