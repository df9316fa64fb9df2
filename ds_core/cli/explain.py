"""`ds explain`: the decision tree of a session on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds_core.cli.options import session_options
from ds_core.cli.output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ds_core.explain import Explanation


@click.command()
@session_options
@click.option(
    "--from",
    "checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint with a session's state: say what is other here than it was there.",
)
@json_option
def explain(settings: dict[str, Any], checkpoint: Path | None, as_json: bool) -> None:
    """Show what a session would use here, and why.

    Exits with 1 where the session would be refused, or where something differs from a checkpoint.
    """
    if checkpoint is not None:
        if settings:
            raise click.UsageError("--from takes its settings from the checkpoint.")
        _compare(checkpoint, as_json)
        return
    from ds_core.config import resolve
    from ds_core.explain import explain as decide
    from ds_core.registry import installed

    found = decide(resolve(options=settings), installed())
    if as_json:
        echo_json(found)
    else:
        _print(found)
    if found.refusal:
        raise click.ClickException(found.refusal)


def _compare(checkpoint: Path, as_json: bool) -> None:
    from ds_core.provenance import Difference, differences, session_states
    from ds_core.registry import installed

    found = {
        where: differences(parts, installed())
        for where, parts in session_states(checkpoint).items()
    }
    if as_json:
        echo_json(found, dict[str, list[Difference]])
    else:
        for where, several in found.items():
            _heading(where, "is as it was" if not several else "differs")
            for one in several:
                click.echo(f"    {one.component}, {one.what}: {one.there} there, {one.here} here")
                if one.mend:
                    click.echo(f"      {one.mend}")
    if any(found.values()):
        raise SystemExit(1)


def _print(found: Explanation) -> None:
    _heading("backend", f"{found.backend or 'none'} ({found.backend_origin})")
    for row in found.backends:
        mark = "*" if row.chosen else " "
        click.echo(f"  {mark} {row.name} of {row.distribution} {row.version}: {row.reason}")
    if found.refusal:
        return
    _heading("dtypes", f"on {found.device}; the best is {found.best_dtype}")
    echo_table(
        ("dtype", "works", "fast", "speed", "why"),
        [
            (
                name,
                "yes" if support.works else "no",
                "yes" if support.fast else "no",
                f"{support.speedup:.3g}x" if support.speedup is not None else "",
                support.reason,
            )
            for name, support in found.dtypes.items()
        ],
        indent="    ",
    )
    _heading("passes", "" if found.passes else "none")
    for part in found.passes:
        click.echo(
            f"    {part.kind} {part.name} of {part.distribution} {part.version} ({part.origin})"
        )
        for setting in part.settings:
            click.echo(f"      {setting.key} = {json.dumps(setting.value)} ({setting.origin})")
        for sentence in part.says:
            click.echo(f"      {sentence}")
    _heading("needs", "" if found.needs else "nothing in particular")
    for need in found.needs:
        click.echo(f"    {need.component} needs {need.capability}: {need.provider} has it")


def _heading(word: str, rest: str) -> None:
    click.echo(f"{click.style(word, bold=True)} {rest}".rstrip())
