"""From a recording to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ds_core.errors import ConfigError, RefusedError, nearest
from ds_inspector.exporting import chrome, model_explorer, speedscope, tables
from ds_inspector.exporting.writing import Outputs
from ds_inspector.recording import Recording

KINDS: dict[str, Callable[[Recording, Path, Outputs], None]] = {
    "chrome": chrome.write,
    "speedscope": speedscope.write,
    "model-explorer": model_explorer.write,
    "csv": tables.write,
}
"""What writes each format."""


def export(recording: Recording, kind: str, path: str | Path, *, force: bool = False) -> list[Path]:
    """Write a recording in another format.

    Args:
        recording: What to write.
        kind: One of `KINDS`: `chrome` for Perfetto and chrome://tracing, `speedscope`,
            `model-explorer`, which also writes the nodes' times and sizes beside the graph, or
            `csv`, a folder with a file for each table, or a zip of them if `path` ends so.
        path: Where to; a suffix `.gz` compresses what is JSON.
        force: Overwrite what is there.

    Returns:
        The files that were written, all of them or none.

    Raises:
        ConfigError: There is no such format.
        RefusedError: The recording has nothing of what the format shows, something is there
            already, or the files cannot be written.
    """
    path = Path(path)
    if kind not in KINDS:
        raise ConfigError(
            f"There is no format {kind!r}.",
            mend=nearest(kind, KINDS) or f"Take one of {', '.join(KINDS)}.",
        )
    with Outputs(force=force) as outputs:
        try:
            KINDS[kind](recording, path, outputs)
            return outputs.finish()
        except OSError as error:
            raise RefusedError(
                f"{error.filename or path} cannot be written: {error.strerror or error}.",
                mend="See that the folder exists and has room.",
            ) from error
