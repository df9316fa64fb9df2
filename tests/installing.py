"""Installing distributions for the time of a test, without touching the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SITE = """import site

site.addsitedir({folder!r})
"""


def environment(folder: Path) -> dict[str, str]:
    """Variables under which pip installs into `folder`, and Python finds what is there.

    Neither build environments nor dependencies are installed: all that tests need is there, and so
    they need no network.
    """
    (folder / "start").mkdir(parents=True)
    prefix = folder / "prefix"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = prefix / "lib" / version / "site-packages"
    # Editable installations are .pth files, which only site folders have read.
    (folder / "start" / "sitecustomize.py").write_text(SITE.format(folder=str(packages)))
    return {
        "PYTHONPATH": str(folder / "start"),
        "PIP_PREFIX": str(prefix),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's spelling of no isolation
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DS_STATE_DIR": str(folder / "state"),
        "OMP_NUM_THREADS": "1",
    }


def run(*command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python: a module's name and its arguments."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
