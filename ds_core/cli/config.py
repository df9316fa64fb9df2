"""`ds config`: settings and where they come from."""

from __future__ import annotations

import json
from typing import Any

import click

from ds_core.cli.options import session_options
from ds_core.cli.output import echo_json, echo_table, json_option


@click.group()
def config() -> None:
    """Show settings and where they come from."""


@config.command()
@session_options
@json_option
def show(settings: dict[str, Any], as_json: bool) -> None:
    """Show each setting as it stands in this folder, with its origin."""
    from ds_core.config import resolve
    from ds_core.explain import settings_of
    from ds_core.switches import Switches, config_file

    found = settings_of(resolve(options=settings))
    file = config_file()
    off = dict(sorted(Switches.read().off.items()))
    if as_json:
        echo_json({"settings": found, "user_file": str(file), "disabled": off})
        return
    rows = [(s.key, "none" if s.value is None else _shown(s.value), s.origin) for s in found]
    echo_table(("setting", "value", "origin"), rows)
    click.echo()
    click.echo(f"user's file: {file}{'' if file.exists() else ' (not there)'}")
    for name, place in off.items():
        click.echo(f"plugin {name} is switched off in {place}")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
