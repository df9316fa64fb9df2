"""A host with one card for the probe to read, beside the stub that torch_npu computes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ds_ascend import detect
from ds_ascend.simulated import HOST

VARIABLE = "CANN_STUB_HOST"


def write_host(root: Path, home: Path) -> dict[str, str]:
    """Write a host whose CANN is the stub; returns what tells other processes where it is."""
    for name, text in HOST.items():
        if "usr/local/Ascend/cann" not in name:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
    # The probe looks for ASCEND_HOME_PATH beneath its root.
    inside = root / home.relative_to("/")
    inside.parent.mkdir(parents=True)
    inside.symlink_to(home)
    return {VARIABLE: str(root)}


@contextmanager
def one_card() -> Iterator[None]:
    """Let the probe find that host in place of this machine."""
    original, host = detect.probe, os.environ[VARIABLE]
    detect.probe = lambda root="/": original(host if root == "/" else root)
    try:
        yield
    finally:
        detect.probe = original
