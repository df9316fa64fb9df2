"""`ds inspect show`: what a recording tells, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--top", default=15, show_default=True, help="Operators that are listed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, top: int, as_json: bool) -> None:
    """Print steps, phases, the costliest operators, the peak of memory and advice."""
    from ds_inspector.analysis.advice import advice
    from ds_inspector.analysis.memory import memory
    from ds_inspector.analysis.operators import operators
    from ds_inspector.analysis.ranking import ranking
    from ds_inspector.analysis.summary import summary
    from ds_inspector.importing.opening import open_any

    recording = open_any(file)
    told = summary(recording)
    rows = ranking(recording, top)
    findings = advice(recording)["findings"]
    found = memory(recording)
    if as_json:
        from ds_inspector.command.printing import echo_json

        echo_json(
            {
                **told,
                "operators": rows,
                "findings": findings,
                "would_save": found["would_save"],
            }
        )
        return
    _head(told)
    _operators(rows, operators(recording)["peaks"])
    _memory(recording, found)
    _advice(findings)


def _head(told: dict[str, Any]) -> None:
    import numpy as np

    from ds_inspector.command.figures import seconds, share

    about, totals = told["about"], told["totals"]
    click.secho(about["title"], bold=True)
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    click.echo(f"{about['origin']}{': ' + machine if machine else ''}")
    lengths = np.asarray(told["steps"]["end"]) - np.asarray(told["steps"]["start"])
    if len(lengths):
        click.echo(
            f"{len(lengths)} step{'s' if len(lengths) > 1 else ''}, median "
            f"{seconds(float(np.median(lengths)))} ({seconds(float(lengths.min()))} to "
            f"{seconds(float(lengths.max()))})"
        )
    phases = [f"{name} {seconds(value)}" for name, value in told["phases"].items()]
    if phases:
        unmatched = totals["unmatched_seconds"] / totals["seconds"]
        click.echo(f"{', '.join(phases)}; {share(unmatched)} of the time is no module's")
    if totals["nodes"]:
        click.echo(f"{totals['nodes']:,} nodes in the graph")
    for collector in about["collectors"]:
        cost = collector["overhead"]
        known = "cost not measured" if cost is None else f"{cost:.2f}x the time of a step"
        note = f" ({collector['note']})" if collector["note"] else ""
        click.echo(f"collector {collector['name']}: {known}{note}")
    for problem in about["problems"]:
        click.secho(problem, fg="yellow")


def _operators(rows: list[dict[str, Any]], peaks: dict[str, float]) -> None:
    from ds_core.cli.output import echo_table, size
    from ds_inspector.command.figures import cut, rate, seconds, share

    if not rows:
        return
    click.echo()
    echo_table(
        ["operator", "calls", "self", "share", "in all", "bytes", "rate", "of peak"],
        [
            [
                cut(row["op"], 48),
                f"{row['calls']:,}",
                seconds(row["seconds"]),
                share(row["share"]),
                seconds(row["total"]),
                "" if row["bytes"] is None else size(int(row["bytes"])),
                rate(row["rate"]),
                f"{share(row['share_of_peak'])} {row['bound']}".strip(),
            ]
            for row in rows
        ],
    )
    if peaks:
        known = [f"{name} {rate(value)}" for name, value in peaks.items() if name != "bandwidth"]
        known += [f"{size(int(peaks['bandwidth']))}/s"] if "bandwidth" in peaks else []
        click.echo(f"peaks measured here: {', '.join(known)}")


def _memory(recording: Any, found: dict[str, Any]) -> None:
    from ds_core.cli.output import echo_table, size
    from ds_inspector.command.figures import cut

    if not found["peaks"]:
        return
    top = max(found["peaks"], key=lambda peak: peak["bytes"])
    tensors = recording.tensors
    click.echo()
    click.echo(f"peak {size(int(top['bytes']))} at {top['time']:.3f} s, of which the largest are")
    echo_table(
        ["bytes", "kind", "shape", "made by", "module"],
        [
            [
                size(int(tensors.numbers("bytes")[row])),
                tensors.texts("kind")[row],
                f"{tensors.texts('dtype')[row]} {tensors.texts('shape')[row]}".strip(),
                cut(tensors.texts("name")[row] or tensors.texts("op")[row], 40),
                cut(tensors.texts("module")[row], 40),
            ]
            for row in top["tensors"][:5]
        ],
    )
    for saving in found["would_save"]:
        click.echo(f"{saving['pass']} would take off {size(saving['bytes'])}: {saving['how']}")


def _advice(findings: list[dict[str, Any]]) -> None:
    from ds_inspector.command.figures import cut, share

    for finding in findings:
        click.echo()
        gain = finding["estimate"]
        click.secho(finding["title"], bold=True, nl=gain is None)
        if gain is not None:
            click.echo(f" (up to {share(gain)} of a step)")
        click.echo(f"  {finding['evidence']}")
        click.echo(f"  {finding['remedy']}")
        place = [finding["module"], finding["source"]]
        if any(place):
            click.echo(f"  Most of it: {', '.join(cut(part, 80) for part in place if part)}")
