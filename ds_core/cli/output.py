"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

COLOURS = {
    "ok": "green",
    "yes": "green",
    "disabled": "yellow",
    "no": "yellow",
    "clash": "red",
    "incompatible": "red",
    "broken": "red",
    "passed": "green",
    "failed": "red",
}


def json_option(function: Function) -> Function:
    """The option `--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def echo_json(value: Any, type_: Any = None) -> None:
    """Print a pydantic model, or with its type anything that pydantic knows, as JSON."""
    import pydantic

    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type_ or type(value))
    click.echo(adapter.dump_json(value, indent=2).decode())


def echo_table(head: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Print columns under their heads; empty cells show as `-`."""
    lines = [list(head), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells = [
            click.style(cell, bold=True) if number == 0 else coloured(cell) for cell in padded[:-1]
        ]
        last = click.style(line[-1], bold=True) if number == 0 else coloured(line[-1])
        click.echo(indent + "  ".join([*cells, last]).rstrip())


def coloured(text: str) -> str:
    """`text` in the colour of the word that it is, if it is one of those that have one."""
    colour = COLOURS.get(text.strip())
    return click.style(text, fg=colour) if colour else text


def size(amount: int | None) -> str:
    """Bytes for people."""
    if amount is None:
        return ""
    number = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
