"""Recordings in the formats of other viewers."""

from ds_inspector.exporting.export import KINDS, export

__all__ = ["KINDS", "export"]
