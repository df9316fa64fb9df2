"""The sources below a folder: what is read, what is left out, and what could not be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ds_core.compatibility.findings import Finding
from ds_core.components.porting import Level

MAX_BYTES = 2 * 2**20
"""Larger files are hardly written by hand."""
MAX_FILES = 50_000

PYTHON = {".py", ".pyi"}
CUDA = {".cu", ".cuh"}
NATIVE = CUDA | {".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".inl"}

_SKIPPED = {
    *("__pycache__", "node_modules", "site-packages", "build", "dist", "env.bak", "venv.bak"),
    *("__pypackages__", "_skbuild", "bazel-out"),
}


@dataclass
class Source:
    """One file with what it holds."""

    path: str
    """As it was named or found."""
    kind: str
    """`python` or `native`."""
    data: bytes

    @property
    def is_cuda(self) -> bool:
        """Whether it is compiled for the device."""
        return Path(self.path).suffix in CUDA

    @property
    def text(self) -> str:
        """UTF-8, or each byte as a character of its own."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return self.data.decode("latin-1")


@dataclass
class Tree:
    """A walk over a file or folder. Links are not followed, so that it always ends."""

    root: Path
    findings: list[Finding] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def sources(self) -> Iterator[Source]:
        """Every source, in the order of their paths; fills in `findings` and `skipped`."""
        paths = iter([self.root]) if self.root.is_file() else self._walk(self.root)
        for number, path in enumerate(paths):
            if number == MAX_FILES:
                what = f"There are more than {MAX_FILES:,} sources: the rest was not looked at."
                self._note("too-large", self.root, what, "Name a folder further down.")
                return
            data = self._read(path)
            if data is not None:
                kind = "python" if path.suffix in PYTHON else "native"
                yield Source(shown(path), kind, data)

    def _walk(self, folder: Path) -> Iterator[Path]:
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                with os.scandir(here) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self._unread(here, error)
                continue
            deeper = []
            for entry in entries:
                path = here / entry.name
                if _is_folder(entry):
                    if _is_skipped(path):
                        self.skipped.append(shown(path))
                    else:
                        deeper.append(path)
                elif path.suffix in PYTHON | NATIVE and _is_file(entry):
                    yield path
            waiting += reversed(deeper)

    def _read(self, path: Path) -> bytes | None:
        try:
            if path.stat().st_size > MAX_BYTES:
                size = path.stat().st_size / 2**20
                what = f"It has {size:.1f} MiB, more than {MAX_BYTES >> 20}: it was not looked at."
                self._note("too-large", path, what)
                return None
            data = path.read_bytes()
        except OSError as error:
            self._unread(path, error)
            return None
        if path.suffix not in PYTHON and not _is_utf8(data):
            self._note("encoding", path, "It is not UTF-8, and was read byte by byte.")
        return data

    def _unread(self, path: Path, error: OSError) -> None:
        self._note("unreadable", path, f"It cannot be read: {error.strerror or error}.")

    def _note(self, rule: str, path: Path, what: str, mend: str = "") -> None:
        level: Level = "note" if rule == "encoding" else "warning"
        self.findings.append(
            Finding(rule=rule, level=level, what=what, mend=mend, path=shown(path))
        )


def shown(path: Path) -> str:
    """A path as text; what of its name is no text stands as question marks."""
    return path.as_posix().encode(errors="replace").decode()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_skipped(path: Path) -> bool:
    """Version control, caches, virtual environments, and what tools built or downloaded."""
    name = path.name
    if name.startswith(".") or name in _SKIPPED or name.endswith(".egg-info"):
        return True
    return (path / "pyvenv.cfg").exists() or (path / "conda-meta").exists()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
