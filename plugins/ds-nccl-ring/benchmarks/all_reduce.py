"""How long all-reduces take on emulated clusters, by all algorithms, against goals.

    python plugins/ds-nccl-ring/benchmarks/all_reduce.py [--short] [--shapes 4x2,4x4]
        [--rates 200mbit,1gbit] [--sizes 4KiB,64KiB,1MiB,16MiB] [--variants flat,hierarchical]
        [--rounds 7] [--budget 4] [--json]

Hosts are network namespaces on this machine, joined by uplinks of the rate; needs root, ip and tc.
All variants of a size are timed in turns, and the time of a round is that of its slowest rank. It
is the medians that are compared: with `flat`, gloo's ring over ranks that are numbered host by
host, and with the least time that the uplinks allow, 2(N-1)/N of the bytes that travel. A tensor is
float32. A parameter server is not timed above 16 MiB, where one all-reduce takes a minute.

What else runs on the machine shows: all ranks share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click
from ds_nccl_ring.bench import run, table
from ds_nccl_ring.bench.figures import Figures, Row
from ds_nccl_ring.bench.options import VARIANTS, Options, variants_named
from ds_nccl_ring.bounds import parse_size

MIB = 1 << 20
LARGE = 16 * MIB
"""Bytes from which an uplink's rate is what counts."""


class Goal(NamedTuple):
    """A ratio at one size, and what it should be."""

    what: str
    at: str
    ratio: float
    limit: float
    least: bool
    """Whether the limit is the least that is good, in place of the most."""

    @property
    def met(self) -> bool:
        return self.ratio >= self.limit if self.least else self.ratio <= self.limit


def goals(figures: Figures) -> Iterator[Goal]:
    """What was reached of each goal that the figures can tell of."""
    from ds_core.cli.output import size

    for nbytes in sorted({row.nbytes for row in figures.rows}):
        rows = {row.algorithm: row for row in figures.rows if row.nbytes == nbytes}
        at, flat = size(nbytes), rows.get("flat")
        chosen, exact = rows.get("chosen"), rows.get("hierarchical")
        if chosen and flat:
            yield Goal("chosen / flat", at, chosen.seconds / flat.seconds, 1.02, False)
        if nbytes < LARGE:
            continue
        for name, limit in (
            ("hierarchical", 1.06),
            ("hierarchical-bfloat16", 1.15),
            ("hierarchical-int8", 1.15),
        ):
            if name in rows:
                yield Goal(f"{name} / bound", at, over_bound(figures, rows[name]), limit, False)
        lossy = [row for row in rows.values() if row.wire != "float32" and row.error <= 1e-2]
        if lossy and flat:
            fastest = min(lossy, key=lambda row: row.seconds)
            yield Goal("flat / compressed", at, flat.seconds / fastest.seconds, 2.65, True)
        if exact and "interleaved" in rows and figures.hosts == (4, 4, 4, 4):
            ratio = rows["interleaved"].seconds / exact.seconds
            yield Goal("interleaved / hierarchical", at, ratio, 4.5, True)
        if exact and "parameter-server" in rows:
            ratio = rows["parameter-server"].seconds / exact.seconds
            yield Goal("parameter server / hierarchical", at, ratio, 7.5, True)


def over_bound(figures: Figures, row: Row) -> float:
    """How many times its bound a row takes."""
    bound = figures.bound(row)
    assert bound is not None
    return row.seconds / bound


def measure(shape: str, rate: str, options: argparse.Namespace) -> Figures:
    """One cluster; sizes that a parameter server is too slow for are run without it."""
    sizes = [parse_size(size) for size in options.sizes.split(",")]
    variants = variants_named(options.variants)
    without = tuple(name for name in variants if name != "parameter-server")
    parts = [
        (tuple(size for size in sizes if size <= LARGE), variants),
        (tuple(size for size in sizes if size > LARGE), without),
    ]
    found = [
        run.emulated(shape, rate, Options(some, names, options.rounds, options.budget))
        for some, names in parts
        if some and names
    ]
    rows = tuple(row for figures in found for row in figures.rows)
    return found[0].model_copy(update={"rows": rows})


def show(figures: Figures) -> list[Goal]:
    from ds_core.cli.output import echo_table

    print(f"\n{table.title(figures)}\n")
    echo_table(table.HEAD, table.lines(figures))
    reached = list(goals(figures))
    if reached:
        print()
        lines = [
            (
                goal.what,
                goal.at,
                f"{goal.ratio:.3f}",
                f"{'at least' if goal.least else 'at most'} {goal.limit:g}",
                "met" if goal.met else "missed",
            )
            for goal in reached
        ]
        echo_table(("goal", "size", "reached", "wanted", ""), lines)
    return reached


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="4x2 at 200mbit, three sizes.")
    parser.add_argument("--shapes", default="4x2,4x4")
    parser.add_argument("--rates", default="200mbit,1gbit")
    parser.add_argument("--sizes", default="4KiB,16KiB,64KiB,256KiB,1MiB,4MiB,16MiB,64MiB")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=4.0, help="Seconds a variant and size.")
    parser.add_argument("--json", action="store_true")
    if parser.parse_args(arguments).short:
        parser.set_defaults(shapes="4x2", rates="200mbit", sizes="64KiB,1MiB,16MiB", budget=3.0)
    options = parser.parse_args(arguments)
    if not options.json:
        load = " ".join(f"{each:.1f}" for each in os.getloadavg())
        print(f"load of this machine's {os.cpu_count()} cores before: {load}")
    found = []
    reached: list[Goal] = []
    for shape in options.shapes.split(","):
        for rate in options.rates.split(","):
            figures = measure(shape, rate, options)
            found.append(figures)
            if not options.json:
                reached += show(figures)
    if options.json:
        told = [
            {
                **figures.model_dump(mode="json"),
                "goals": [goal._asdict() | {"met": goal.met} for goal in goals(figures)],
            }
            for figures in found
        ]
        click.echo(json.dumps(told, indent=2))
    else:
        met = sum(goal.met for goal in reached)
        print(f"\n{met} of {len(reached)} goals met.")


if __name__ == "__main__":
    main()
