"""What each operation of torch does with labels."""

from ds_prune.analysis.rules import (  # noqa: F401
    contraction,
    convolution,
    elementwise,
    normalisation,
    pieces,
    recurrent,
    reduction,
    reshape,
    shape,
    spatial,
)
from ds_prune.analysis.rules.registry import RULES, Rule

__all__ = ["RULES", "Rule"]
