"""`ds demo`: the main job."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds_core.cli.options import session_options
from ds_core.cli.output import echo_json, echo_table, json_option, size

if TYPE_CHECKING:
    from rich.progress import Progress

    from ds_core.demo.run import Comparison, Figures


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with one folder of images for each class; scikit-learn's digits by default.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of both trainings.")
@session_options
@json_option
def demo(
    data: Path | None,
    epochs: int | None,
    seed: int,
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Train a small model twice, plain and with passes, and compare what each costs.

    A precision and a pruner that are not named are the best of those installed.
    """
    from ds_core.demo.run import run

    with _progress() as progress:
        found = run(data, epochs=epochs, seed=seed, settings=settings, progress=progress)
    if as_json:
        echo_json(found)
    else:
        _print(found)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each training on a terminal's error stream; nothing anywhere else."""
    bars = _bars()
    tasks: dict[str, Any] = {}

    def update(what: str, done: int, total: int) -> None:
        if bars is None:
            return
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total)
        bars.update(tasks[what], completed=done)

    with bars or contextlib.nullcontext():
        yield update


def _bars() -> Progress | None:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:  # they only decorate
        return None
    return Progress(console=Console(stderr=True), transient=True)


def _print(found: Comparison) -> None:
    before, after = found.before, found.after
    click.echo(
        f"{found.data}: {found.train_images:,} images to learn from, {found.test_images:,} to test "
        f"on; {found.epochs} epochs, {found.steps:,} steps, seed {found.seed}"
    )
    if found.skipped_files:
        click.echo(f"{found.skipped_files} files that are no images were skipped.")
    click.echo()
    rows: list[tuple[str, Callable[[Any], str], str]] = [
        ("test accuracy", lambda value: f"{value:.2%}", "accuracy"),
        ("parameters", lambda value: f"{value:,}", "parameters"),
        ("parameters that are not zero", lambda value: f"{value:,}", "nonzero_parameters"),
        ("multiply-adds, one image", lambda value: f"{value:,}", "multiply_adds"),
        ("saved for backward, one batch", size, "saved_bytes"),
        ("one step", lambda value: f"{value * 1e3:,.1f} ms", "step_seconds"),
    ]
    echo_table(
        ("", "before", "after", "ratio"),
        [
            (
                label,
                shown(getattr(before, name)),
                shown(getattr(after, name)),
                _ratio(getattr(before, name), getattr(after, name)),
            )
            for label, shown, name in rows
        ],
    )
    click.echo(
        f"\nSteps were timed in turns; four of five took {_range(before)} before and "
        f"{_range(after)} after.\n\n{found.session}"
    )


def _range(figures: Figures) -> str:
    return f"{figures.step_p10 * 1e3:,.1f} to {figures.step_p90 * 1e3:,.1f} ms"


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.3g}x" if before else ""
