"""A record of a training: one line of JSON for each look, as `ds dmp trace` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ds_core.errors import ConfigError

FORMAT = 1


class TraceWriter:
    """Writes looks to a file, each whole or not at all.

    Args:
        path: Made anew; its folder must exist.
        header: What the file begins with.

    Raises:
        ConfigError: The file cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self._file: TextIO | None = None
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"precision 'dmp' cannot write its trace to {path}: {error.strerror}.",
                mend="Give `trace` a file in a folder that exists and may be written.",
            ) from None
        self.write({"format": FORMAT, **header})

    def write(self, record: Mapping[str, Any]) -> None:
        """Add one line. A disk that is full ends the trace, not the training."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            from ds_core.notices import warn

            warn(f"The trace {self.path} ends here: {error.strerror}.")
            self._file = None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A trace's header and its looks, in order.

    Raises:
        ConfigError: It is no trace, or of another format; a last line that was cut off is left out.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"Cannot read the trace {path}: {reason}.") from None
    records: Sequence[Any] = []
    try:
        records = [json.loads(line) for line in lines[:-1]]
        try:
            records = [*records, *(json.loads(line) for line in lines[-1:])]
        except ValueError:
            if not records:
                raise
    except ValueError:
        records = []
    if not records or not isinstance(records[0], dict) or records[0].get("format") != FORMAT:
        raise ConfigError(
            f"{path} is no trace of precision 'dmp'.",
            mend="Train with precision={'name': 'dmp', 'trace': FILE}, and give that file.",
        )
    return records[0], list(records[1:])
