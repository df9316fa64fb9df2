"""The command `ds dmp`: look at what a training's layers computed in."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group("dmp")
def dmp() -> None:
    """Look at trainings under precision `dmp`."""


@dmp.command("trace")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Where the picture goes: .html, .png or .svg; RUN with .html unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trace(run: Path, output: Path | None, as_json: bool) -> None:
    """Draw each layer's dtype over the steps of RUN, a file that the option `trace` wrote."""
    # Imported when it is used, so that completing and help answer at once.
    from ds_core.errors import ConfigError
    from ds_dmp import picture
    from ds_dmp.history import History

    history = History.read(run)
    target = output or run.with_suffix(".html")
    if target.resolve() == run.resolve():
        raise ConfigError(f"The picture would overwrite {run}.", mend="Give another --output.")
    picture.draw(history, target)
    summary = history.summary()
    if as_json:
        click.echo(json.dumps({**summary, "picture": str(target)}, indent=2))
        return
    click.echo(
        f"{summary['model']}: {summary['units']} layers, {summary['looks']} looks up to step "
        f"{summary['steps']:,}, {summary['share']:.1%} of multiply-adds in 16 bit"
    )
    for flip in history.flips:
        click.echo(
            f"  step {flip['step']:,}: {flip['unit']} {flip['before']} -> {flip['after']}, "
            f"{flip['why']}"
        )
    click.echo(f"Drawn in {target}.")
