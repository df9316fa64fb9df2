"""Rules by the names of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow

Rule = Callable[[Flow, Call], Any]
"""What an operation does with labels: the value of its result, or a tuple of several."""

_Rule = TypeVar("_Rule", bound=Rule)

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[_Rule], _Rule]:
    """Register a rule for operations, named as by torch without overload and namespace."""

    def register(function: _Rule) -> _Rule:
        for name in names:
            RULES[name] = function
        return function

    return register
