"""Tensors inside whatever a model takes and returns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def map_tensors(
    function: Callable[[Any], Any],
    value: Any,
    unknown: Callable[[Any], Any] = lambda leaf: leaf,
) -> Any:
    """Apply `function` to each tensor in nested tuples, lists, dicts and dataclasses.

    Containers keep their types, and those given are not changed, except that `torch.compile`, which
    traces this but no copying, fills mappings of a type other than `dict` in place. `unknown` is
    applied to leaves that might hide tensors.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        items = [map_tensors(function, item, unknown) for item in value]
        # A namedtuple takes its fields one by one, a tuple takes one iterable.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, list):
        return [map_tensors(function, item, unknown) for item in value]
    if isinstance(value, dict):
        if type(value) is dict:
            return {key: map_tensors(function, item, unknown) for key, item in value.items()}
        filled = value if torch.compiler.is_compiling() else copy.copy(value)
        for key in list(value.keys()):
            filled[key] = map_tensors(function, value[key], unknown)
        return filled
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = copy.copy(value)
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                item = map_tensors(function, getattr(value, field.name), unknown)
                object.__setattr__(result, field.name, item)
        return result
    return unknown(value)


def tensors_in(value: Any) -> Iterator[Any]:
    """Each tensor that `map_tensors` would reach."""
    found: list[Any] = []

    def note(tensor: Any) -> Any:
        found.append(tensor)
        return tensor

    map_tensors(note, value)
    return iter(found)
