"""What is printed once something was recorded."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ds_inspector.recording import Recording

_TOP = 5


def tell(recording: Recording, path: Path) -> None:
    """Say where a recording is and what stands out in it."""
    about = recording.about
    steps = recording.steps
    click.echo(f"Recorded {about.title} in {path}.")
    if steps.rows:
        seconds = steps.numbers("end") - steps.numbers("start")
        click.echo(f"  {steps.rows} steps, {np.median(seconds) * 1e3:.3g} ms each")
    elif recording.nodes.rows:
        click.echo(f"  {recording.nodes.rows:,} operators")
    costs = [f"{one.name} {one.overhead:.2f}x" for one in about.collectors if one.overhead]
    if costs:
        click.echo(f"  with {', '.join(costs)} of a plain step's time")
    for name, share in top_operators(recording, _TOP):
        click.echo(f"  {share:6.1%}  {name}")
    for problem in about.problems:
        click.echo(f"  {problem}")
    click.echo(f"See it: ds inspect view {path}")


def top_operators(recording: Recording, count: int) -> list[tuple[str, float]]:
    """Operators by their share of all operators' own time."""
    from ds_inspector.recording import Texts

    events = recording.events
    kind = events.texts("kind")
    counted = kind.equal("operator") | kind.equal("kernel")
    if not counted.any():
        return []
    parent, duration = events.numbers("parent"), events.numbers("duration")
    own = duration.copy()
    inside = parent >= 0
    own -= np.bincount(parent[inside], weights=duration[inside], minlength=len(own))
    names: Texts = events.texts("name")
    own = np.clip(own, 0.0, None) * counted
    seconds = np.bincount(names.codes, weights=own, minlength=len(names.values))
    best = np.argsort(-seconds)[:count]
    total = max(float(seconds.sum()), 1e-12)
    return [(names.values[code], float(seconds[code]) / total) for code in best if seconds[code]]
