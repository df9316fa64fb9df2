"""Which channels of a model depend on each other."""

from ds_prune.analysis.analysis import Analysis, analyse
from ds_prune.analysis.reference import Reference

__all__ = ["Analysis", "Reference", "analyse"]
