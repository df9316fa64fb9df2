"""ds-core: hooks and plugins that make PyTorch training cheaper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ds_core.attaching import attach, session_of
    from ds_core.config import SessionConfig
    from ds_core.errors import DsError
    from ds_core.hookspecs import hookimpl
    from ds_core.models import load_model, transform
    from ds_core.registry import Registry, installed
    from ds_core.selector import BackendSelector
    from ds_core.session import Session

_HOME = {
    "BackendSelector": "ds_core.selector",
    "DsError": "ds_core.errors",
    "Registry": "ds_core.registry",
    "Session": "ds_core.session",
    "SessionConfig": "ds_core.config",
    "attach": "ds_core.attaching",
    "hookimpl": "ds_core.hookspecs",
    "installed": "ds_core.registry",
    "load_model": "ds_core.models",
    "session_of": "ds_core.attaching",
    "transform": "ds_core.models",
}

__all__ = [
    "BackendSelector",
    "DsError",
    "Registry",
    "Session",
    "SessionConfig",
    "__version__",
    "attach",
    "hookimpl",
    "installed",
    "load_model",
    "session_of",
    "transform",
]


def __getattr__(name: str) -> Any:
    # Imported when first used, so that `import ds_core` costs nothing.
    if name in _HOME:
        from importlib import import_module

        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ds_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
