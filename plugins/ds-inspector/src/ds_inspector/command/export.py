"""The command `ds inspect export`: a recording in the format of another viewer."""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("chrome", "speedscope", "model-explorer", "csv")


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", "kind", type=click.Choice(FORMATS), required=True, help="The format.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="Where to; .gz and .zip compress.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def export(file: Path, kind: str, output: Path, force: bool) -> None:
    """Write FILE, of any kind that can be viewed, in the format of another viewer.

    chrome is for Perfetto and chrome://tracing; model-explorer writes the nodes' times and sizes
    beside the graph; csv makes a folder, or a zip, with a file for each table.
    """
    # Imported when it is used, so that completing and help answer at once.
    from ds_inspector import exporting
    from ds_inspector.importing.opening import open_any

    for path in exporting.export(open_any(file), kind, output, force=force):
        click.echo(f"Written to {path}.")
