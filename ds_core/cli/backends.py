"""`ds backends`: which hardware is usable here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds_core.cli.output import echo_json, echo_table, json_option, size

if TYPE_CHECKING:
    from ds_core.explain import BackendRow


@click.command()
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    default="/",
    help="Where /sys, /proc and /dev are looked for.",
)
@json_option
def backends(root: str, as_json: bool) -> None:
    """Show which hardware is usable here, and why, without importing torch."""
    from ds_core.explain import BackendRow, survey
    from ds_core.registry import installed

    rows = survey(installed(), root)
    if as_json:
        echo_json(rows, list[BackendRow])
        return
    echo_table(
        ("", "backend", "distribution", "usable", "devices", "memory", "driver", "software"),
        [
            (
                "*" if row.chosen else " ",
                row.name,
                f"{row.distribution} {row.version}",
                "yes" if row.usable else "no",
                _devices(row),
                size(row.memory),
                row.driver or "",
                ", ".join(f"{name} {version}" for name, version in row.software.items()),
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.chosen:
            click.echo(f"* {row.name}: backend `auto` takes it")
        for problem in row.problems:
            click.echo(f"{row.name}: {problem.what} {problem.mend}")
        if not row.usable and not row.problems:
            click.echo(f"{row.name}: {row.reason}")


def _devices(row: BackendRow) -> str:
    names: dict[str, int] = {}
    for device in row.devices:
        label = f"{device.name} ({device.arch})" if device.arch else device.name
        names[label] = names.get(label, 0) + 1
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())
