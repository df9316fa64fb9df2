"""Files of models, of profilers and of this package, opened as recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds_inspector.importing.opening import open_any

__all__ = ["open_any"]


def __getattr__(name: str) -> Any:
    # Imported when first used: processes that only decode text need little of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ds_inspector.importing import opening

    return getattr(opening, name)
