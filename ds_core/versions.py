"""Versions of all that takes part in a session, read without importing torch or any plugin."""

from __future__ import annotations

import platform

import pydantic

from ds_core import __version__
from ds_core.components.torch_version import torch_build
from ds_core.registry import CORE, Registry


class Versions(pydantic.BaseModel):
    """What to write into a report of a problem."""

    ds_core: str
    python: str
    platform: str
    torch: str | None
    """As `2.13.0+cpu`; None where torch is not installed."""
    plugins: dict[str, str]
    """Version by distribution, of those that offer anything to ds-core."""


def versions(registry: Registry) -> Versions:
    """Read them."""
    build = torch_build()
    return Versions(
        ds_core=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        torch=build.version if build else None,
        plugins={
            record.distribution: record.version
            for record in sorted(registry.records(), key=lambda record: record.distribution)
            if record.distribution != CORE
        },
    )
