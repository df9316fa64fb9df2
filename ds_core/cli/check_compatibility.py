"""`ds check-compatibility`: does this machine, and does a project, fit a target?"""

from __future__ import annotations

import difflib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds_core.cli.options import PluginName
from ds_core.cli.output import echo_json, echo_table, json_option

if TYPE_CHECKING:
    from ds_core.compatibility.findings import CompatibilityReport, Finding, TargetReport

_COLOURS = {"error": "red", "warning": "yellow", "note": None}
_SHOWN_NAMES = 12
_SHOWN_ALIKE = 3


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), required=False)
@click.option(
    "--target",
    "targets",
    type=PluginName("backend", ("all",)),
    multiple=True,
    help="A backend to check for, or all that are installed; may be repeated. The one that `auto` "
    "takes here unless given.",
)
@click.option("--fix", is_flag=True, help="Rewrite Python that has an equal; shows a diff first.")
@click.option("--yes", is_flag=True, help="With --fix, do not ask.")
@click.option("--verbose", is_flag=True, help="List notes, and every place, too.")
@click.option(
    "--import-torch", is_flag=True, help="Also import torch, in another process, to see it work."
)
@click.option(
    "--sarif",
    "sarif_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the findings to this file in SARIF 2.1.0, for code hosts.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False),
    default="/",
    help="Where /sys, /proc and /dev are looked for.",
)
@json_option
def check_compatibility(
    path: Path | None,
    targets: tuple[str, ...],
    fix: bool,
    yes: bool,
    verbose: bool,
    import_torch: bool,
    sarif_file: Path | None,
    root: str,
    as_json: bool,
) -> None:
    """Check this machine, and the sources in PATH, for a target; exit with 1 where one stops.

    Nothing of a project is imported or run. Findings are errors, which stop a program, warnings,
    which change what it does, and notes, which are shown with --verbose.
    """
    from ds_core.compatibility.check import check
    from ds_core.errors import PluginError, UnknownNameError
    from ds_core.registry import installed

    if fix and path is None:
        raise click.UsageError("--fix needs the PATH of a project.")
    if yes and not fix:
        raise click.UsageError("--yes goes with --fix.")
    if fix and path is not None:
        _fix(path, yes, quiet=as_json)
    try:
        report = check(installed(), path, targets, root=root, import_torch=import_torch)
    except (UnknownNameError, PluginError) as error:
        raise click.UsageError(str(error)) from None
    if sarif_file is not None:
        from ds_core.compatibility.sarif import sarif

        try:
            sarif_file.write_text(sarif(report.findings, Path.cwd()), encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"{sarif_file} cannot be written: {error.strerror}.") from None
    if as_json:
        echo_json(report)
    else:
        _print(report, verbose)
    if report.stops:
        raise SystemExit(1)


def _fix(path: Path, yes: bool, quiet: bool) -> None:
    from ds_core.compatibility.sources import Tree
    from ds_core.errors import ConfigError

    try:
        from ds_core.compatibility.rewrite import rewrite
    except ImportError:
        raise ConfigError(
            "--fix needs libcst, which is not installed.", mend='pip install "ds-core[fix]"'
        ) from None
    changes: list[tuple[Path, bytes]] = []
    for source in Tree(path).sources():
        if source.kind != "python" or not (b"cuda" in source.data or b"nccl" in source.data):
            continue
        changed = rewrite(source.data)
        if changed != source.data:
            changes.append((Path(source.path), changed))
            _diff(source.path, source.data, changed, err=quiet)
    if not changes:
        click.echo("There is nothing to rewrite.", err=quiet)
        return
    what = f"{len(changes)} file{'s' if len(changes) > 1 else ''}"
    if not yes and not (sys.stdin.isatty() and click.confirm(f"Rewrite {what}?", err=quiet)):
        click.echo(f"{what} would change, and none did; --yes rewrites without asking.", err=quiet)
        return
    for file, changed in changes:
        _replace(file, changed)
    click.echo(f"Rewrote {what}.", err=quiet)


def _replace(file: Path, data: bytes) -> None:
    """Put new content in place at once, or leave the file as it was."""
    from ds_core.errors import ConfigError

    real = file.resolve()
    draft = real.with_name(f".{real.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(data)
        draft.chmod(real.stat().st_mode)
        draft.replace(real)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}.", mend="It is as it was."
        ) from None


def _diff(name: str, before: bytes, after: bytes, err: bool) -> None:
    old, new = (
        data.decode("utf-8", errors="replace").splitlines(keepends=True) for data in (before, after)
    )
    for line in difflib.unified_diff(old, new, name, name):
        colour = {"+": "green", "-": "red"}.get(line[0]) if line[:3] not in ("+++", "---") else None
        click.secho(line if line.endswith("\n") else f"{line}\n", fg=colour, nl=False, err=err)


def _print(report: CompatibilityReport, verbose: bool) -> None:
    for target in report.targets:
        _target(report, target)
    for level, colour in _COLOURS.items():
        found = [finding for finding in report.findings if finding.level == level]
        if not found or (level == "note" and not verbose):
            continue
        click.echo()
        click.secho(f"{level}s", fg=colour, bold=True)
        for line in _lines(found, len(report.targets) > 1, verbose):
            click.echo(f"  {line}")
    if report.upgrades:
        click.echo()
        click.secho("in this order", bold=True)
        for number, step in enumerate(report.upgrades, 1):
            click.echo(f"  {number}. {step.what}  ({step.why.rstrip('.')})")
    if report.path is not None:
        click.echo()
        click.echo(_looked_at(report))


def _target(report: CompatibilityReport, target: TargetReport) -> None:
    mine = [finding for finding in report.findings if finding.target in ("", target.name)]
    where = f"{target.device} {target.arch}".strip() or "no such device here"
    counts = ", ".join(_count(mine, level) for level in _COLOURS)
    verdict = "not checked" if not target.checked else counts
    click.echo(f"{click.style(target.name, bold=True)} ({target.distribution}, {where}): {verdict}")
    if target.coverage is not None:
        coverage = target.coverage
        both = len(coverage.mapped) + len(coverage.unmapped)
        share = f" ({coverage.share:.1%})" if coverage.share is not None else ""
        click.echo(
            f"  names of CUDA's in native code: {len(coverage.mapped)}/{both} mapped{share}, "
            f"{len(coverage.identity)} the same"
        )
        if coverage.unmapped:
            click.echo(f"  unmapped: {_listed(coverage.unmapped)}")
    if target.dtypes:
        known = {True: "yes", False: "no", None: "measure"}
        echo_table(
            ("dtype", "works", "fast", "loss scale", "why"),
            [
                (
                    row.rule.dtype,
                    known[row.rule.works],
                    known[row.rule.fast] if row.rule.works is not False else "",
                    "yes" if row.loss_scale and row.rule.works is not False else "",
                    row.rule.reason,
                )
                for row in target.dtypes
            ],
            indent="  ",
        )


def _count(findings: list[Finding], level: str) -> str:
    number = sum(finding.level == level for finding in findings)
    return f"{number} {level}{'s' if number != 1 else ''}"


def _listed(names: tuple[str, ...]) -> str:
    rest = len(names) - _SHOWN_NAMES
    more = f" and {rest} more (--json has all)" if rest > 0 else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _lines(found: list[Finding], with_target: bool, verbose: bool) -> Iterator[str]:
    """One for each finding; of those that say the same, the first few unless all are asked for."""
    alike = Counter((finding.rule, finding.target, finding.what) for finding in found)
    told: Counter[tuple[str, str, str]] = Counter()
    for finding in found:
        key = (finding.rule, finding.target, finding.what)
        told[key] += 1
        if verbose or told[key] <= _SHOWN_ALIKE:
            yield _line(finding, with_target)
        elif told[key] == alike[key]:
            more = alike[key] - _SHOWN_ALIKE
            place = "place" if more == 1 else "places"
            yield f"{finding.rule}: the same at {more} more {place}; --verbose lists them"


def _line(finding: Finding, with_target: bool) -> str:
    place = f"{finding.place}: " if finding.path else ""
    target = f"[{finding.target}] " if with_target and finding.target else ""
    more = f" ({finding.count} times)" if finding.count > 1 else ""
    return f"{place}{finding.rule}: {target}{finding.what}{more} {finding.mend}".rstrip()


def _looked_at(report: CompatibilityReport) -> str:
    files = " and ".join(
        f"{number:,} {kind.capitalize() if kind == 'python' else kind} "
        f"file{'s' if number != 1 else ''}"
        for kind, number in report.files.items()
    )
    skipped = f" Left out: {_listed(report.skipped)}." if report.skipped else ""
    return f"Looked at {files}.{skipped}"
