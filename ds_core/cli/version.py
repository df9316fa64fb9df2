"""`ds version`."""

from __future__ import annotations

import click

from ds_core.cli.output import echo_json, json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show versions of all that takes part."""
    from ds_core.registry import installed
    from ds_core.versions import versions

    found = versions(installed())
    if as_json:
        echo_json(found)
        return
    click.echo(f"ds-core {found.ds_core}")
    click.echo(f"python {found.python} on {found.platform}")
    click.echo(f"torch {found.torch or 'is not installed'}")
    for distribution, plugin_version in found.plugins.items():
        click.echo(f"{distribution} {plugin_version}")
