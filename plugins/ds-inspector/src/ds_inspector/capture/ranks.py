"""Which process of a job records."""

from __future__ import annotations

import os
from pathlib import Path


def rank() -> int:
    """This process's, as torchrun says it; 0 without."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


def is_recorded(everyone: bool) -> bool:
    """Whether this process records: the first, or each."""
    return everyone or rank() == 0


def ranked(path: Path) -> Path:
    """A file for this process alone: `run.dsrec` as it is without torchrun, else `run.1.dsrec`."""
    if int(os.environ.get("WORLD_SIZE", "1") or "1") <= 1:
        return path
    return path.with_name(f"{path.stem}.{rank()}{path.suffix}")
