"""Folders as the Hugging Face Hub lays them out: config.json beside a file of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def config_in(name: str) -> dict[str, Any]:
    """The config.json of the folder `name`; empty where it is no folder or has none."""
    try:
        config = json.loads(Path(name, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
