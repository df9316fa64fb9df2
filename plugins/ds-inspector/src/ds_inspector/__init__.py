"""Where a model's time and memory go: graph, flame graph, tensor lifetimes and advice, linked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds_inspector.capture.inspection import inspect
    from ds_inspector.recording import Recording, load

__version__ = "0.1.0"
__all__ = ["Recording", "inspect", "load"]

_HOMES = {
    "inspect": "ds_inspector.capture.inspection",
    "Recording": "ds_inspector.recording",
    "load": "ds_inspector.recording",
}


def __getattr__(name: str) -> Any:
    # Imported when first used, so that the command line answers at once.
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
