"""Which torch is installed, read as text: importing it takes over a second and may fail."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from ds_core.components import host_files

_LINE = re.compile(r"^(__version__|cuda|hip)\b[^=\n]*=\s*(['\"])([^'\"\n]+)\2", re.MULTILINE)


class TorchBuild(NamedTuple):
    """An installed torch and what it was built for."""

    version: str
    """As `2.13.0+cpu`."""
    cuda: str | None = None
    """The CUDA toolkit's version, as `12.6`; None in a build without CUDA."""
    hip: str | None = None
    """The HIP version; None in a build that is not for ROCm."""


def torch_build() -> TorchBuild | None:
    """The torch that `import torch` would find, without importing it; None where there is none."""
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):  # ValueError: a half-imported torch without a spec
        return None
    if spec is None or not spec.origin:
        return None
    text = host_files.read(str(Path(spec.origin).parent), "version.py")
    values = {name: value for name, _, value in _LINE.findall(text)}
    if "__version__" not in values:
        return None
    return TorchBuild(values["__version__"], values.get("cuda"), values.get("hip"))
