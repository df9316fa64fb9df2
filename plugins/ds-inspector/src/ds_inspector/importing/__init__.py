"""Files of models, of profilers and of this package, opened as recordings."""

from ds_inspector.importing.opening import open_any

__all__ = ["open_any"]
