"""Channels pruned while training: models that are really smaller and faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds_prune.analysis.analysis import analyse
    from ds_prune.exporting import export
    from ds_prune.one_shot import prune
    from ds_prune.plan import Plan, load_model
    from ds_prune.structure import Structure
    from ds_prune.surgery.source import Source

_HOMES = {
    "Plan": "plan",
    "Source": "surgery.source",
    "Structure": "structure",
    "analyse": "analysis.analysis",
    "export": "exporting",
    "load_model": "plan",
    "prune": "one_shot",
}

__all__ = ["Plan", "Source", "Structure", "analyse", "export", "load_model", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
