"""The user's line of code, out of a stack of frames."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module

_OWN = ("torch", "ds_core", "ds_inspector")
_USER, _LIBRARY, _PASSED = 2, 1, 0


class Lines:
    """Finds the innermost line that is the user's, else the innermost that is not torch's.

    The user's is what lies outside installed packages, and the packages that the model's own
    classes come from.

    Args:
        model: What is recorded.
    """

    def __init__(self, model: Module | None = None) -> None:
        roots = (
            {type(module).__module__.partition(".")[0] for module in model.modules()}
            if (model is not None)
            else set()
        )
        self._user = _folders(roots - {*_OWN, "__main__", "builtins"})
        self._passed = _folders(_OWN)
        places = sysconfig.get_paths()
        self._packages = tuple(f"{places[key]}/" for key in ("purelib", "platlib"))
        self._standard = f"{places['stdlib']}/"
        self._ranks: dict[str, int] = {}
        self._short: dict[str, str] = {}

    def of_places(self, places: Iterable[tuple[str, int]]) -> str:
        """Of paths and lines, innermost first; "" where none is the user's."""
        found = ""
        for path, line in places:
            rank = self._rank(path)
            if rank == _USER:
                return f"{self._shortened(path)}:{line}"
            if rank == _LIBRARY and not found:
                found = f"{self._shortened(path)}:{line}"
        return found

    def of_frame(self, frame: FrameType | None) -> str:
        """Of running code; "" where nothing is the user's."""
        found = ""
        ranks = self._ranks
        while frame is not None:
            path = frame.f_code.co_filename
            rank = ranks.get(path)
            if rank is None:
                rank = self._rank(path)
            if rank == _USER:
                return f"{self._shortened(path)}:{frame.f_lineno}"
            if rank == _LIBRARY and not found:
                found = f"{self._shortened(path)}:{frame.f_lineno}"
            frame = frame.f_back
        return found

    def _rank(self, path: str) -> int:
        rank = self._ranks.get(path)
        if rank is None:
            rank = self._ranks[path] = self._ranked(path)
        return rank

    def _ranked(self, path: str) -> int:
        if path.startswith(("<", *self._passed)):
            return _PASSED
        if path.startswith(self._user):
            return _USER
        if path.startswith(self._packages):
            return _LIBRARY
        return _PASSED if path.startswith(self._standard) else _USER

    def _shortened(self, path: str) -> str:
        short = self._short.get(path)
        if short is None:
            bases = [str(Path.cwd()), *sorted(filter(None, sys.path), key=len, reverse=True)]
            short = next(
                (path[len(base) + 1 :] for base in bases if path.startswith(f"{base}/")), path
            )
            self._short[path] = short
        return short


def _folders(packages: Iterable[str]) -> tuple[str, ...]:
    """Where packages' files are, or their only file."""
    paths = [getattr(sys.modules.get(name), "__file__", None) or "" for name in packages]
    return tuple(
        f"{Path(path).parent}/" if path.endswith("__init__.py") else path for path in paths if path
    )
