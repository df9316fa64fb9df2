"""How much a file may ask for before it is refused."""

from __future__ import annotations

from ds_core.errors import RefusedError

NODES = 1_000_000
"""Of a graph, with those of functions wherever they are called."""

EXPANDED = 200_000
"""Nodes within calls of functions; calls beyond are shown as one node."""

DEPTH = 48
"""Of graphs within graphs."""

FIELDS = 30_000_000
"""Of protobuf messages in one file."""

EVENTS = 20_000_000
"""Of a trace."""

TRACE = 4 << 30
"""Bytes of a trace, unpacked."""

WHOLE = 256 << 20
"""Bytes of JSON that cannot be read piece by piece; objects can take twenty times as much."""

MEMBERS = 200_000
"""Files in an archive."""

NAME = 400
"""Characters of a name; the rest is cut."""

TEXT = 4_000
"""Characters of other texts, as a node's attributes."""


def refuse(what: str, limit: int, unit: str) -> RefusedError:
    """The error that says which limit was passed.

    Args:
        what: Subject and verb, as `The graph has`.
        limit: The most that is read.
        unit: Of the limit, as `nodes`.
    """
    return RefusedError(f"{what} more than {limit:,} {unit}, the most that is read.")


def cut(text: str, limit: int = NAME) -> str:
    """A text of at most `limit` characters, the last of which says that it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"
