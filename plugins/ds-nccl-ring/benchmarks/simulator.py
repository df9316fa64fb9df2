"""How well a calibrated simulation predicts clusters that it has not seen.

    python plugins/ds-nccl-ring/benchmarks/simulator.py [--variants flat,hierarchical]
        [--sizes 4MiB,8MiB,16MiB] [--rounds 5] [--budget 3] [--json]

Costs are fitted to all-reduces on some emulated clusters and then predict others, which differ in
hosts, ranks or the uplinks' rate. Goals: off by at most 3% in the median and 6% at worst. What
takes below a tenth of a second is decided by how processes share this machine's cores, which the
model knows nothing of; smaller tensors can be asked for. Needs root, ip, tc, and a machine at rest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import click
from ds_nccl_ring.bench import run
from ds_nccl_ring.bench.figures import Figures
from ds_nccl_ring.bench.options import Options, variants_named
from ds_nccl_ring.bounds import parse_size
from ds_nccl_ring.simulate import fit

SEEN = (("2x2", "200mbit"), ("4x2", "200mbit"), ("4x4", "200mbit"), ("4x2", "500mbit"))
HELD_OUT = (("3x2", "200mbit"), ("4x3", "300mbit"), ("4x2", "300mbit"), ("5x2", "200mbit"))
MEDIAN, WORST = 0.03, 0.06


def measure(clusters: Sequence[tuple[str, str]], options: argparse.Namespace) -> list[Figures]:
    told = Options(
        sizes=tuple(parse_size(size) for size in options.sizes.split(",")),
        variants=variants_named(options.variants),
        rounds=options.rounds,
        budget=options.budget,
    )
    return [run.emulated(shape, rate, told) for shape, rate in clusters]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", default="flat,interleaved,hierarchical,hierarchical-bfloat16")
    parser.add_argument("--sizes", default="4MiB,8MiB,16MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=3.0, help="Seconds a variant and size.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    seen = fit.points(measure(SEEN, options))
    held_out = fit.points(measure(HELD_OUT, options))
    fitted = fit.fit(seen)
    own, others = fit.misses(fitted, seen), fit.misses(fitted, held_out)
    if options.json:
        told = {
            "costs": {name: vars(costs) for name, costs in fitted.items()},
            "seen": rows(seen, own),
            "held out": rows(held_out, others),
            "median": others.median,
            "worst": others.worst,
        }
        click.echo(json.dumps(told, indent=2))
        return
    show(held_out, others)
    print(f"\nfitted to {len(seen)} times, off by {own.median:.1%} in the median, "
          f"{own.worst:.1%} at worst on these")  # fmt: skip
    for what, reached, goal in (("median", others.median, MEDIAN), ("worst", others.worst, WORST)):
        verdict = "met" if reached <= goal else "missed"
        print(f"held out, {what}: {reached:.1%}, at most {goal:.0%} wanted: {verdict}")


def rows(points: Sequence[fit.Point], found: fit.Misses) -> list[dict[str, Any]]:
    return [
        {
            "algorithm": point.algorithm,
            **vars(point.shape),
            "nbytes": point.nbytes,
            "measured": point.seconds,
            "simulated": point.seconds * (1 + error),
        }
        for point, error in zip(points, found.errors, strict=True)
    ]


def show(held_out: Sequence[fit.Point], found: fit.Misses) -> None:
    from ds_core.cli.output import echo_table
    from ds_core.cli.output import size as told

    print("emulated clusters that the fit has not seen\n")
    echo_table(
        ("algorithm", "hosts", "ranks", "Mbit/s", "size", "measured ms", "simulated ms", "off by"),
        [
            (
                point.algorithm,
                str(point.shape.hosts),
                str(point.shape.ranks),
                f"{point.shape.rate * 8 / 1e6:.0f}",
                told(point.nbytes),
                f"{point.seconds * 1e3:.1f}",
                f"{point.seconds * (1 + error) * 1e3:.1f}",
                f"{error:+.1%}",
            )
            for point, error in zip(held_out, found.errors, strict=True)
        ],
    )


if __name__ == "__main__":
    main()
