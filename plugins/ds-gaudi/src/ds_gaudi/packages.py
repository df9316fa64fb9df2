"""Which of the Python packages for Gaudi are installed, without importing them."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import importlib_metadata

from ds_core.components.torch_version import TorchBuild, torch_build

_REQUIRED = "habana_frameworks/torch/required_version.txt"


class Packages(NamedTuple):
    """Versions; None for what is not installed."""

    torch: TorchBuild | None
    bridge: str | None
    """Of the distribution habana-torch-plugin."""
    bridge_torch: str | None = None
    """The torch that the bridge was compiled for, where it says so."""


def installed() -> Packages:
    """What this interpreter would import."""
    build = torch_build()
    try:
        distribution = importlib_metadata.distribution("habana-torch-plugin")
        version = distribution.version or None
        required = distribution.read_text(f"../{_REQUIRED}")
    except (importlib_metadata.PackageNotFoundError, KeyError, OSError, ValueError):
        return Packages(build, None)
    return Packages(build, version, required.strip() if required else None)


def lazy() -> bool:
    """Whether the environment asks for lazy mode; the backend asks for eager mode otherwise."""
    return os.environ.get("PT_HPU_LAZY_MODE", "0") != "0"


def release(version: str) -> tuple[int, int] | None:
    """Major and minor number of a version; None where it has none."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    return (int(match[1]), int(match[2])) if match else None
