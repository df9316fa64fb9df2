"""JSON of what analyses return."""

from __future__ import annotations

from typing import Any

import click


def echo_json(value: Any, *, indent: bool = True) -> None:
    """Print plain values and numpy arrays as JSON; what is unknown is null."""
    import orjson

    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    if indent:
        option |= orjson.OPT_INDENT_2
    click.echo(orjson.dumps(value, option=option, default=lambda other: other.tolist()).decode())
