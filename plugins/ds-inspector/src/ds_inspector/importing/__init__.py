"""Files of models, of profilers and of this package, opened as recordings."""
