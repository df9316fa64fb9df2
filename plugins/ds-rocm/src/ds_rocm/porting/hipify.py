"""The tables of torch's own hipify, read by path: torch is not imported."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

_MAPS = (
    *("CUDA_IDENTIFIER_MAP", "CUDA_TYPE_NAME_MAP", "CUDA_INCLUDE_MAP", "CUDA_SPECIAL_MAP"),
    *("PYTORCH_SPECIFIC_MAPPINGS", "C10_MAPPINGS"),
)


class Tables(NamedTuple):
    """What hipify rewrites. Both are empty where torch is not installed."""

    names: dict[str, str]
    headers: dict[str, str]
    """By path as it stands in `#include`, without brackets or quotes."""


@cache
def tables() -> Tables:
    """Load them; the first call takes some ten milliseconds."""
    names: dict[str, str] = {}
    headers: dict[str, str] = {}
    for key, value in _entries():
        if re.fullmatch(r"\w+", key):
            names[key] = value
        elif "." in key or "/" in key:
            headers[_path(key)] = _path(value)
    return Tables(names, headers)


@cache
def absent() -> frozenset[str]:
    """Names that hipify writes though HIP does not have them."""
    text = Path(__file__).with_name("absent.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def _path(entry: str) -> str:
    return re.sub(r"^(?:include )?[<\"]?|>$", "", entry)


def _entries() -> list[tuple[str, str]]:
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return []
    if spec is None or not spec.origin:
        return []
    path = Path(spec.origin).parent / "utils" / "hipify" / "cuda_to_hip_mappings.py"
    data = importlib.util.spec_from_file_location("_ds_rocm_hipify_tables", path)
    if data is None or data.loader is None:
        return []
    module = importlib.util.module_from_spec(data)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        data.loader.exec_module(module)
    except Exception:  # another torch's tables may need what this one's do not
        return []
    finally:
        sys.dont_write_bytecode = writes
    found: list[tuple[str, str]] = []
    for name in _MAPS:
        for key, value in getattr(module, name, {}).items():
            # Older torches have the target first in a tuple, with flags behind.
            flags = () if isinstance(value, str) else value[1:]
            if "HIP_UNSUPPORTED" not in map(str, flags):
                found.append((key, value if isinstance(value, str) else str(value[0])))
    return found
