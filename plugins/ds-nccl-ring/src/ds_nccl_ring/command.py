"""The command `ds topology`: how ranks are placed, connected, and how fast they reduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds_nccl_ring.bench.figures import Figures
    from ds_nccl_ring.show import Shown
    from ds_nccl_ring.simulate.outlook import Outlook

TIMEOUT = 60.0
"""Seconds that ranks wait for each other."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), help="Also draw a picture: .svg or .png."
)


@click.group("topology")
def topology() -> None:
    """Look at where ranks are, and at what all-reduces cost.

    `show` and `bench` run under torchrun too: torchrun ... -m ds_core topology show
    """


@topology.command("show")
@click.option("--calibrate", is_flag=True, help="Time the algorithms, a second or two.")
@json_option
def show(calibrate: bool, as_json: bool) -> None:
    """Print hosts, ranks, and the algorithm for each size."""
    # Imported when it is used, so that completing and help answer at once.
    from ds_core.cli.output import echo_json
    from ds_nccl_ring import show as showing

    place = showing.meet(TIMEOUT)
    found = showing.show(place, calibrate=calibrate, timeout=TIMEOUT)
    if place.rank:
        return
    if as_json:
        echo_json(found)
    else:
        _print_shown(found)


@topology.command("bench")
@click.option(
    "--sizes",
    default="64KiB,1MiB,16MiB",
    show_default=True,
    help="Of the tensors, separated by commas.",
)
@click.option(
    "--variants",
    default="flat,interleaved,hierarchical,hierarchical-bfloat16,hierarchical-int8",
    show_default=True,
    help="Algorithms; there are chosen and parameter-server, too.",
)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="At most.")
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for each algorithm and size, about.",
)
@click.option("--rate", help="Of each host's uplink, as 25gbit; measured unless given.")
@click.option("--emulate", help="Hosts and ranks on each, as 4x2: emulate a cluster (root).")
@json_option
@plot_option
def bench(
    sizes: str,
    variants: str,
    rounds: int,
    budget: float,
    rate: str | None,
    emulate: str | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Time all-reduces of float32 by several algorithms, side by side.

    Run it under torchrun, or with --emulate on one machine, which measures real transfers over
    uplinks of --rate (1gbit unless given), but no real cluster.
    """
    from ds_core.cli.output import echo_json
    from ds_core.testing.emulated_cluster.rates import bits_per_second
    from ds_nccl_ring import curves
    from ds_nccl_ring.bench import run, table
    from ds_nccl_ring.bench.options import Options, variants_named
    from ds_nccl_ring.bounds import parse_size

    if plot is not None:
        curves.check(plot)
    options = Options(
        sizes=tuple(parse_size(size) for size in sizes.split(",")),
        variants=variants_named(variants),
        rounds=rounds,
        budget=budget,
        rate=None if rate is None else bits_per_second(rate) / 8,
    )
    figures = run.emulated(emulate, rate or "1gbit", options) if emulate else run.here(options)
    if figures is None:
        return
    if plot is not None:
        table.draw(figures, plot)
    if as_json:
        echo_json(figures)
        return
    _print_figures(figures)
    if plot is not None:
        click.echo(f"Drawn in {plot}.")


@topology.command("doctor")
@json_option
def doctor(as_json: bool) -> None:
    """Look for settings of this host and job that slow collectives down or break them.

    Exits with 1 if it finds a problem.
    """
    from ds_core.cli.output import echo_json
    from ds_nccl_ring.doctor.examination import examine
    from ds_nccl_ring.doctor.finding import Finding

    findings = examine(timeout=TIMEOUT)
    if as_json:
        echo_json(findings, list[Finding])
    else:
        for finding in findings:
            told = f"{finding.what} {finding.mend}".rstrip()
            click.echo(f"{finding.level:8} {finding.subject}: {told}")
    if any(finding.level == "problem" for finding in findings):
        raise click.exceptions.Exit(1)


@topology.command("simulate")
@click.option("--nodes", type=click.IntRange(1), default=128, show_default=True)
@click.option("--gpus-per-node", type=click.IntRange(1), default=8, show_default=True)
@click.option("--size", default="25MiB", show_default=True, help="Of the tensor.")
@click.option("--rate", help="Of each node's uplinks together, as 3200gbit.")
@click.option(
    "--protocol",
    type=click.Choice(["Simple", "LL128"]),
    help="NCCL's; the faster of both unless given.",
)
@click.option(
    "--calibration",
    multiple=True,
    type=click.Path(path_type=Path),
    help="What `bench --json` printed; may be repeated.",
)
@json_option
@plot_option
def simulate(
    nodes: int,
    gpus_per_node: int,
    size: str,
    rate: str | None,
    protocol: str | None,
    calibration: tuple[Path, ...],
    as_json: bool,
    plot: Path | None,
) -> None:
    """Predict all-reduces by a cost model. Nothing that this prints is measured."""
    from ds_core.cli.output import echo_json
    from ds_core.errors import ConfigError
    from ds_core.testing.emulated_cluster.rates import bits_per_second
    from ds_nccl_ring import curves
    from ds_nccl_ring.bench.figures import Figures
    from ds_nccl_ring.bounds import parse_size
    from ds_nccl_ring.simulate.model import Shape
    from ds_nccl_ring.simulate.outlook import Clock, draw, outlook

    if plot is not None:
        curves.check(plot)
    if protocol and calibration:
        raise ConfigError("A protocol of NCCL's cannot be chosen with --calibration.")
    clock = Clock([Figures.read(path) for path in calibration], protocol)
    uplink = clock.rate if rate is None else bits_per_second(rate) / 8
    found = outlook(clock, Shape(nodes, gpus_per_node, uplink), parse_size(size))
    if plot is not None:
        draw(found, plot)
    if as_json:
        echo_json(found)
        return
    _print_outlook(found)
    if plot is not None:
        click.echo(f"Drawn in {plot}.")


def _print_shown(found: Shown) -> None:
    from ds_core.cli.output import echo_table
    from ds_core.cli.output import size as told

    placement, plan = found.placement, found.plan
    rows = [(h.name, ", ".join(map(str, h.ranks)), h.address) for h in placement.hosts]
    echo_table(("host", "ranks", "address"), rows)
    click.echo("")
    facts = [
        ("proved by", placement.proof),
        ("rails", str(plan.rails)),
        ("inside hosts", plan.legs),
        ("wire", plan.wire if len(plan.hosts) > 1 else "none: a single host"),
        ("chunk", told(plan.chunk_bytes)),
    ]
    for name, fact in facts:
        click.echo(f"{name:14}{fact}")
    click.echo("")
    if placement.size == 1:
        click.echo("A single rank reduces nothing.")
    else:
        echo_table(("from", "algorithm"), [(told(start), name) for start, name in plan.algorithms])
        click.echo("Timed here." if found.seconds else "Not timed; --calibrate does.")
    for size, seconds in found.seconds.items():
        times = ", ".join(f"{name} {each * 1e3:.2f} ms" for name, each in seconds.items())
        click.echo(f"  {told(size)}: {times}")
    for note in placement.notes:
        click.echo(f"note: {note}")


def _print_figures(figures: Figures) -> None:
    from ds_core.cli.output import echo_table
    from ds_nccl_ring.bench import table

    click.echo(table.title(figures))
    click.echo("")
    echo_table(table.HEAD, table.lines(figures))


def _print_outlook(found: Outlook) -> None:
    from ds_core.cli.output import echo_table
    from ds_nccl_ring.simulate import words

    click.echo(words.title(found))
    click.echo("")
    for head, rows in words.tables(found):
        echo_table(head, rows)
        click.echo("")
    for sentence in words.remarks(found):
        click.echo(sentence)
