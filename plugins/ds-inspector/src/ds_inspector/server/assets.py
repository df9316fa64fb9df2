"""The files of the page, as they were built."""

from __future__ import annotations

from pathlib import Path

from ds_core.errors import RefusedError

FOLDER = Path(__file__).parents[1] / "page_assets"

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "layout.js": "text/javascript; charset=utf-8",
    "THIRD_PARTY.txt": "text/plain; charset=utf-8",
}
"""All files there are, and what they hold."""


def read(name: str) -> bytes:
    """One of the files.

    Raises:
        RefusedError: The page was not built.
    """
    try:
        return (FOLDER / name).read_bytes()
    except OSError as error:
        raise RefusedError(
            f"The page is not built: {FOLDER / name} is missing.",
            mend="Install Node.js with npm, then: npm ci && npm run build in ds-inspector's page/.",
        ) from error
