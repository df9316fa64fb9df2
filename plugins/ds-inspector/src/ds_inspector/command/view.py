"""`ds inspect view`: the page, in the browser or as a file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("view")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("against", type=click.Path(path_type=Path), required=False)
@click.option("--profile", type=click.Path(path_type=Path), help="Of onnxruntime, for ONNX.")
@click.option("--port", type=click.IntRange(1, 65535), help="To listen on; a free one by default.")
@click.option("--no-browser", is_flag=True, help="Print the address, do not open it.")
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write one self-contained file, serve nothing."
)
def view(
    file: Path,
    against: Path | None,
    profile: Path | None,
    port: int | None,
    no_browser: bool,
    html: Path | None,
) -> None:
    """Look at FILE in a page that links graph, flame graph, memory, operators and advice.

    FILE is a recording, a model of ONNX, PyTorch (.pt2) or TensorFlow, or a trace of
    torch.profiler or onnxruntime. With AGAINST, the page shows what became slower or faster than
    there. It is served on this machine only.
    """
    from ds_inspector.importing.opening import open_any
    from ds_inspector.recording import Recording
    from ds_inspector.server import serve, write_html

    def opened() -> list[Recording]:
        recordings = [open_any(file, profile=profile)]
        return recordings if against is None else [*recordings, open_any(against)]

    if html is None:
        serve(opened, port=port, browser=not no_browser)
        return
    left_out = write_html(opened(), html)
    click.echo(f"Saved in {html}.")
    for sentence in left_out:
        click.echo(sentence)
