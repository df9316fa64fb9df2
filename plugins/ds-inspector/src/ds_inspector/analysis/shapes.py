"""Shapes of an operator's inputs, as recordings write them."""

from __future__ import annotations

import math
import re

Shape = tuple[int, ...]

_SHAPE = re.compile(r"\d+(x\d+)*")


def parsed(text: str) -> list[Shape]:
    """The shapes in `4x3x8x8, 8x3x3x3`; what is no shape, as a scalar's, is ()."""
    return [
        tuple(map(int, part.split("x"))) if _SHAPE.fullmatch(part) else ()
        for part in (part.strip() for part in text.split(","))
    ]


def elements(shape: Shape) -> int:
    """How many a tensor of this shape has."""
    return math.prod(shape)
