"""Networks on which 16 bit fails, trained plain, in static 16 bit and with `dmp`.

    python plugins/ds-dmp/benchmarks/hostile.py [--only NAME] [--seeds N] [--policies fp32,dmp]

float16 and bfloat16 are emulated as accelerators compute them (`ds_core.testing.emulated_16bit`);
nothing here says how fast a policy is. Every policy gets the same initial weights, batches and
steps. A network passes where its accuracy, the mean over the seeds, is at least 99.7% of float32's;
`dmp` must also leave 80% of the forward's multiply-adds in 16 bit.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import click
import torch
from hostile_networks import NETWORKS, Network
from hostile_policies import POLICIES, Outcome, train

ENOUGH, SHARE = 0.997, 0.8

# What emulating takes says nothing about which layers a device would make faster.
DMP = {"every": 20, "cost_gate": False}


def main() -> None:
    """Train, print a table and what it adds up to."""
    options = _options()
    torch.set_num_threads(options.threads)
    if not options.json:
        click.echo(_heading(options.policies))
    outcomes: list[Outcome] = []
    for network in options.only or NETWORKS:
        found = []
        for policy in options.policies:
            for seed in range(options.seeds):
                precision = {"name": "dmp", **DMP, **options.dmp}
                if options.trace:
                    options.trace.mkdir(parents=True, exist_ok=True)
                    precision["trace"] = str(options.trace / f"{network.name}-{seed}.jsonl")
                outcome = train(network, policy, seed, precision)
                found.append(outcome)
                if options.trace:
                    _write(options.trace, outcome)
        outcomes += found
        if not options.json:
            click.echo(_row(network, options.policies, found))
    if options.json:
        click.echo(json.dumps([_summary(outcome) for outcome in outcomes], indent=1))
    else:
        click.echo("\n" + _total(options.policies, outcomes))


def passes(policy: str, found: list[Outcome]) -> bool | None:
    """Whether a policy's trainings of one network suffice; None without float32's to compare."""
    ratio = _ratio(policy, found)
    if ratio is None:
        return None
    shares = [outcome.share for outcome in found if outcome.policy == policy]
    enough = all(share is None or share >= SHARE for share in shares)
    return ratio >= ENOUGH and enough


def _score(policy: str, found: list[Outcome]) -> float:
    return fmean(outcome.score for outcome in found if outcome.policy == policy)


def _ratio(policy: str, found: list[Outcome]) -> float | None:
    if not any(outcome.policy == "fp32" for outcome in found):
        return None
    return _score(policy, found) / _score("fp32", found)


def _heading(policies: list[str]) -> str:
    columns = "".join(
        f"{policy:>8}" + ("" if policy == "fp32" else f"{'ratio':>8}") for policy in policies
    )
    dmp = f"{'16 bit':>8}{'flips':>7}" if "dmp" in policies else ""
    return f"{'network':12}{columns}{dmp}  {'passes':16}  cause"


def _row(network: Network, policies: list[str], found: list[Outcome]) -> str:
    cells = ""
    for policy in policies:
        cells += f"{_score(policy, found):8.4f}"
        if policy != "fp32":
            ratio = _ratio(policy, found)
            cells += f"{'-':>8}" if ratio is None else f"{ratio:8.4f}"
    if "dmp" in policies:
        said = [outcome for outcome in found if outcome.policy == "dmp"]
        shares = [outcome.share for outcome in said if outcome.share is not None]
        flips = [outcome.flips for outcome in said if outcome.flips is not None]
        cells += f"{min(shares):8.1%}" if shares else f"{'-':>8}"
        cells += f"{fmean(flips):7.1f}" if flips else f"{'-':>7}"
    good = [policy for policy in policies if policy != "fp32" and passes(policy, found)]
    return f"{network.name:12}{cells}  {', '.join(good) or 'none':16}  {network.cause}"


def _total(policies: list[str], outcomes: list[Outcome]) -> str:
    names = list(dict.fromkeys(outcome.network for outcome in outcomes))
    parts = []
    for policy in policies:
        if policy != "fp32" and "fp32" in policies:
            verdicts = [
                passes(policy, [outcome for outcome in outcomes if outcome.network == name])
                for name in names
            ]
            parts.append(f"{policy} {sum(map(bool, verdicts))}")
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"Of {len(names)} networks, at {ENOUGH:.1%} of float32's accuracy, these pass: "
        f"{', '.join(parts) or 'nothing was compared'}. "
        f"{len(outcomes)} trainings took {seconds:.0f} s."
    )


def _summary(outcome: Outcome) -> dict[str, object]:
    kept = asdict(outcome)
    losses = kept.pop("losses")
    return {**kept, "last_loss": losses[-1], "finite": outcome.finite}


def _write(folder: Path, outcome: Outcome) -> None:
    path = folder / f"{outcome.network}-{outcome.policy}-{outcome.seed}.json"
    path.write_text(json.dumps(asdict(outcome), indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {network.name: network for network in NETWORKS}
    parser.add_argument("--only", action="append", metavar="NAME", help=", ".join(known))
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind")
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--dmp", type=json.loads, default={}, help="options of dmp, as JSON")
    parser.add_argument("--json", action="store_true", help="one record for each training")
    parser.add_argument(
        "--trace", type=Path, metavar="DIR", help="write losses, reports and dmp's traces here"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.policies = options.policies.split(",")
    for what, given, valid in (
        ("policy", options.policies, POLICIES),
        ("network", options.only or [], known),
    ):
        for name in given:
            if name not in valid:
                parser.error(f"There is no {what} {name!r}. There are {', '.join(valid)}.")
    if options.only:
        options.only = [known[name] for name in options.only]
    return options


if __name__ == "__main__":
    main()
