"""`ds plugins`: what is installed, and what of it is switched on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds_core.cli.check import check
from ds_core.cli.options import PluginName
from ds_core.cli.output import coloured, echo_json, echo_table, json_option
from ds_core.registry import GROUPS, Record, installed
from ds_core.summaries import own_summary

if TYPE_CHECKING:
    from ds_core.plugin_info import PluginInfo

kind_option = click.option(
    "--kind", type=click.Choice(list(GROUPS.values())), help="Only those of this kind."
)


@click.group()
def plugins() -> None:
    """List, inspect, check and switch plugins."""


plugins.add_command(check)


@plugins.command("list")
@kind_option
@json_option
def list_(kind: str | None, as_json: bool) -> None:
    """List everything that is installed; imports none of it."""
    records = [own_summary(record) for record in installed().records(kind)]
    if as_json:
        echo_json(records, list[Record])
        return
    echo_table(
        ("kind", "name", "distribution", "version", "status", "summary"),
        [(r.kind, r.name, r.distribution, r.version, r.status, r.summary) for r in records],
    )
    for record in records:
        if record.status != "ok":
            click.echo(f"{record.kind} {record.full_name}: {record.reason}")


@plugins.command()
@click.argument("name", type=PluginName())
@kind_option
@json_option
def info(name: str, kind: str | None, as_json: bool) -> None:
    """Show all about NAME: a component, model source or command, or a distribution of them."""
    from ds_core.plugin_info import PluginInfo, describe

    registry = installed()
    found = [describe(registry, record) for record in registry.matching(name, kind)]
    if as_json:
        echo_json(found, list[PluginInfo])
        return
    for number, plugin in enumerate(found):
        if number:
            click.echo()
        _print(plugin)


@plugins.command()
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice([kind for kind in GROUPS.values() if kind != "model"]),
    required=True,
    help="What it is to contain.",
)
@click.option("--component", help="What users are to type; NAME without `ds-` unless given.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the folder NAME is made; here unless given.",
)
@json_option
def new(name: str, kind: str, component: str | None, folder: Path, as_json: bool) -> None:
    """Make a plugin NAME that works, with tests that pass, to change into yours."""
    from ds_core.scaffold.names import choose
    from ds_core.scaffold.new import create, render

    names = choose(installed(), kind, name, component)
    made = create(names, folder)
    if as_json:
        echo_json({"folder": str(made), "files": list(render(names)), "component": names.component})
        return
    click.echo(f"{names.distribution}, with {kind} {names.component!r}, is in {made}:")
    for path in render(names):
        click.echo(f"  {path}")
    click.echo("Next:")
    click.echo(f"  python -m pip install -e {shlex.quote(f'{made}[test]')}")
    click.echo(f"  python -m pytest {shlex.quote(str(made))}")


@plugins.command()
@click.argument("name", type=PluginName())
@json_option
def enable(name: str, as_json: bool) -> None:
    """Switch NAME on again: a component, a distribution, or DISTRIBUTION:COMPONENT."""
    from ds_core import switches

    was_off = _in_file_or_installed(name)
    path = switches.enable(name)
    # It may be off under another name or in another place as well.
    installed.cache_clear()
    still_off = [
        record
        for record in installed().records()
        if record.status == "disabled"
        and name in (record.name, record.full_name, record.distribution)
    ]
    if as_json:
        echo_json({"name": name, "file": str(path), "still_off": still_off})
        return
    click.echo(f"{name} is {'on again' if was_off else 'not switched off'} in {path}.")
    for record in still_off:
        click.echo(f"Still off is {record.kind} {record.full_name}: {record.reason}")


@plugins.command()
@click.argument("name", type=PluginName())
@json_option
def disable(name: str, as_json: bool) -> None:
    """Switch NAME off: a component, a distribution, or DISTRIBUTION:COMPONENT."""
    from ds_core import switches

    _in_file_or_installed(name)
    path = switches.disable(name)
    if as_json:
        echo_json({"name": name, "file": str(path)})
        return
    click.echo(f"{name} is switched off in {path}. To use it again: ds plugins enable {name}")


def _in_file_or_installed(name: str) -> bool:
    """Whether the user's file switches `name` off; an error where nothing is called that."""
    from ds_core import switches

    if name in switches.disabled(switches.config_file()):
        return True
    installed().matching(name)
    return False


def _print(plugin: PluginInfo) -> None:
    click.secho(f"{plugin.kind} {plugin.name}", bold=True)
    met = {None: "", True: " (met)", False: " (not met)"}[plugin.requirement_met]
    lines = {
        "distribution": f"{plugin.distribution} {plugin.version}",
        "summary": plugin.summary,
        "home page": plugin.home,
        "needs": plugin.requirement + met,
        "status": f"{coloured(plugin.status)} {plugin.reason}",
        "loaded from": plugin.value,
        "what it is": plugin.doc,
        "hooks": ", ".join(plugin.hooks),
    }
    for label, text in lines.items():
        if text:
            click.echo(f"  {label:12}  {text}".rstrip())
    report = plugin.last_report
    if report is not None:
        click.echo(
            f"  last check    {report.count('passed')} passed, {report.count('failed')} failed, "
            f"{report.count('skipped')} skipped; {report.finished}, version {report.version}"
        )
    if plugin.options:
        click.echo("  options")
        rows = [(o.name, o.type, o.shown_default, o.doc) for o in plugin.options]
        echo_table(("option", "type", "default", "what it does"), rows, indent="    ")
