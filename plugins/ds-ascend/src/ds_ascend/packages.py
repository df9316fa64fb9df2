"""Which of the Python packages for Ascend are installed, without importing them."""

from __future__ import annotations

from typing import NamedTuple

import importlib_metadata

from ds_core.components.torch_version import TorchBuild, torch_build


class Packages(NamedTuple):
    """Versions; None for what is not installed."""

    torch: TorchBuild | None
    torch_npu: str | None
    triton_ascend: str | None

    @property
    def software(self) -> dict[str, str]:
        """Versions by name, of what is there."""
        build = self.torch.version if self.torch else None
        found = {"torch": build, "torch-npu": self.torch_npu, "triton-ascend": self.triton_ascend}
        return {name: version for name, version in found.items() if version}


def installed() -> Packages:
    """What this interpreter would import."""
    return Packages(torch_build(), _version("torch-npu"), _version("triton-ascend"))


def _version(distribution: str) -> str | None:
    try:
        found: str | None = importlib_metadata.version(distribution)
    except (importlib_metadata.PackageNotFoundError, KeyError, OSError, ValueError):
        return None
    return found or None
