"""`ds plugins check`: prove that a component behaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds_core.cli.options import PluginName
from ds_core.cli.output import echo_json, echo_table, json_option
from ds_core.registry import installed

if TYPE_CHECKING:
    from ds_core.conformance_report import CheckResult, ConformanceReport


@click.command()
@click.argument("names", type=PluginName(), nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Check everything that is installed.")
@click.option(
    "--report",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to this file as well, where one component is checked.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="ID",
    help="Run the checks whose ids begin so, as `detach`; may be repeated.",
)
@click.option("--verbose", is_flag=True, help="List checks that passed or were skipped, too.")
@json_option
def check(
    names: tuple[str, ...],
    everything: bool,
    file: Path | None,
    only: tuple[str, ...],
    verbose: bool,
    as_json: bool,
) -> None:
    """Run the conformance suites of the components NAMES; exit with 1 where a check fails.

    A name is that of a component, DISTRIBUTION:COMPONENT, or a distribution, which stands for all
    that it offers. Each component's last report is kept, and `ds plugins info` tells of it.
    """
    from ds_core.conformance import SUITES, checkable, run_suite
    from ds_core.conformance_report import ConformanceReport, report_path, write_report

    registry = installed()
    if everything == bool(names):
        raise click.UsageError("Give NAMES, or --all.")
    records = (
        checkable(registry)
        if everything
        else [one for name in names for one in registry.matching(name) if one.kind in SUITES]
    )
    if not records:
        raise click.UsageError(f"There is no suite for {', '.join(names)}: only for components.")
    if file and len(records) != 1:
        raise click.UsageError(f"--report takes one component, and these are {len(records)}.")
    reports: list[ConformanceReport] = []
    for record in records:
        if not as_json:
            click.echo(f"checking {record.kind} {record.full_name} ...", err=True)
        report = run_suite(record, only)
        # A part of the suite is no conformance: it replaces no report of the whole.
        for path in filter(None, (None if only else report_path(record), file)):
            write_report(report, path)
        reports.append(report)
    if as_json:
        echo_json(reports, list[ConformanceReport])
    else:
        for report in reports:
            _details(report, verbose)
        _summary(reports)
        if file or (len(records) == 1 and not only):
            click.echo(f"Report: {file or report_path(records[0])}")
    if not all(report.passed for report in reports):
        raise SystemExit(1)


def _details(report: ConformanceReport, verbose: bool) -> None:
    name = f"{report.kind} {report.name}"
    if report.crash:
        click.echo(f"{name}: {report.crash}.\n")
    for result in report.checks:
        if result.outcome == "failed" or verbose:
            colour = {"failed": "red", "passed": "green"}.get(result.outcome)
            click.echo(f"{name} {click.style(result.outcome, fg=colour)}  {_title(result)}")
            if result.outcome != "passed":
                click.echo(f"{result.message}\n")


def _title(result: CheckResult) -> str:
    figures = "".join(f"  {key} {value}" for key, value in result.figures.items())
    return f"{result.id}  {result.test}{figures}"


def _summary(reports: list[ConformanceReport]) -> None:
    echo_table(
        ("kind", "name", "distribution", "checks", "failed", "skipped", "overhead", "result"),
        [
            (
                report.kind,
                report.name,
                f"{report.distribution} {report.version}",
                str(len(report.checks)),
                str(report.count("failed")),
                str(report.count("skipped")),
                next(
                    (f"{c.figures['overhead']}x" for c in report.checks if "overhead" in c.figures),
                    "",
                ),
                "passed" if report.passed else "broken" if report.crash else "failed",
            )
            for report in reports
        ],
    )
