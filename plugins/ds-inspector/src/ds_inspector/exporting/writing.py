"""Files that appear only once all of them are complete."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from ds_core.errors import RefusedError


class Outputs:
    """Files and folders under other names until `finish`; without it nothing is left of them.

    Args:
        force: Replace what is there.
    """

    def __init__(self, *, force: bool = False) -> None:
        self._force = force
        self._parts: list[tuple[Path, Path]] = []

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for partial, _ in self._parts:
            _remove(partial)

    def reserve(self, path: Path) -> Path:
        """Where to write what will be at `path`.

        Raises:
            RefusedError: Something is there that may not be replaced.
        """
        if path.exists() and not self._force:
            raise RefusedError(f"{path} is there already.", mend="Give --force to overwrite it.")
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._parts.append((partial, path))
        return partial

    @contextmanager
    def file(self, path: Path) -> Iterator[IO[bytes]]:
        """A file to write into; compressed where its name ends in `.gz`."""
        partial = self.reserve(path)
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw

    def finish(self) -> list[Path]:
        """Give everything its name."""
        done = []
        for partial, path in self._parts:
            if path.is_dir() or (path.exists() and partial.is_dir()):
                _remove(path)
            partial.replace(path)
            done.append(path)
        self._parts = []
        return done


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
