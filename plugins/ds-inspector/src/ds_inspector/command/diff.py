"""`ds inspect diff`: two recordings compared, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_SLOWER = 1
"""Exit status when a step got slower than is allowed; a mistake of use has 2."""


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--top", default=15, show_default=True, help="Modules and operators listed.")
@click.option(
    "--fail-above",
    type=click.FloatRange(min=0, min_open=True),
    help="Fail when a step of AFTER surely takes more than this many times BEFORE's, as 1.05.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def diff(
    context: click.Context,
    before: Path,
    after: Path,
    top: int,
    fail_above: float | None,
    as_json: bool,
) -> None:
    """Tell what became faster and slower from BEFORE to AFTER, in seconds of a step.

    Changes are given with 95% confidence, from how steps differ among themselves.
    """
    from ds_inspector.analysis.difference import difference
    from ds_inspector.importing.opening import open_any

    found = difference(open_any(before), open_any(after))
    if as_json:
        from ds_inspector.command.printing import echo_json

        echo_json(found)
    else:
        _print(found, top)
    low = found["steps"]["low"]
    if fail_above is not None and low is not None and low > fail_above:
        click.echo(
            f"A step takes at least {low:.3g} times as long, more than the {fail_above:g} that "
            "are allowed.",
            err=True,
        )
        context.exit(_SLOWER)


def _print(found: dict[str, Any], top: int) -> None:
    from ds_inspector.command.figures import seconds

    steps = found["steps"]
    if steps["before"]["median"] is None or steps["after"]["median"] is None:
        click.echo("One of them has no time in it.")
    else:
        low, high = steps["low"], steps["high"]
        sure = (
            "fewer than 4 steps on a side, too few to be sure"
            if low is None
            else f"95% confidence: {low:.3f} to {high:.3f}"
        )
        click.echo(
            f"A step: {seconds(steps['before']['median'])} before, "
            f"{seconds(steps['after']['median'])} after, {steps['ratio']:.3f} times as long "
            f"({sure})"
        )
    for sentence in found["problems"]:
        click.echo(sentence)
    _table("module", found["modules"], top)
    _table("operator", found["operators"], top)


def _table(head: str, rows: list[dict[str, Any]], top: int) -> None:
    from ds_core.cli.output import echo_table
    from ds_inspector.command.figures import change, cut, seconds

    key = "op" if head == "operator" else "module"
    rows = [row for row in rows if row["change"]][:top]
    if not rows:
        return
    click.echo()
    echo_table(
        [head, "before", "after", "change", "from", "to", "sure"],
        [
            [
                cut(row[key] or "(no module)", 48),
                seconds(row["before"]),
                seconds(row["after"]),
                change(row["change"]),
                "" if row["low"] is None else change(row["low"]),
                "" if row["high"] is None else change(row["high"]),
                "yes" if row["sure"] else "",
            ]
            for row in rows
        ],
    )
