"""Tries every combination of installed components and writes the table of what came of each.

Run it by `nox -s matrix`, or: python -m tests.matrix.run [--check] [FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from ds_core.registry import installed
from tests.matrix.combinations import (
    KINDS,
    NONE,
    STEPS,
    TOLERANCE,
    attempt,
    combinations,
    plain,
)

HEAD = """# What composes with what

Every combination of the components installed here, tried on one small real training: a network of
two convolutions and a batch norm, {steps} steps. A combination passes where it trains to within
{tolerance} of the plain run's loss ({plain:.4f}), detaching restores the model, the optimizer and
their hooks, and a run resumed from a checkpoint continues with identical losses. One with a
topology is tried in two processes started by torchrun. A combination that the session refuses
shows its sentence. The page is written by `nox -s matrix`, on torch {torch}.

{summary}

"""


def outcomes(every):
    """What came of each combination: one process for all that need one, torchrun for the others."""
    found = {one: attempt(one) for one in every if one.ranks == 1}
    for topology in sorted({one.topology for one in every} - {NONE}):
        several = [one for one in every if one.topology == topology]
        found.update(zip(several, two_ranks(several), strict=True))
    return found


def two_ranks(several):
    """Try combinations one after another in two processes; the worse of two outcomes counts."""
    with tempfile.TemporaryDirectory() as folder:
        orders = Path(folder) / "orders.json"
        orders.write_text(json.dumps([[getattr(one, kind) for kind in KINDS] for one in several]))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", "2", "-m", "tests.matrix.rank", str(orders)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        lines = [Path(folder) / f"rank{rank}.jsonl" for rank in range(2)]
        found = [
            [tuple(json.loads(line)) for line in path.read_text().splitlines()]
            if path.exists()
            else []
            for path in lines
        ]
    order = ("failed", "refused", "passed")
    results = [min(pair, key=lambda one: order.index(one[0])) for pair in zip(*found, strict=False)]
    crash = ("failed", (done.stderr.strip().splitlines() or ["ended early"])[-1])
    return results + [crash] * (len(several) - len(results))


def judge(found, expected):
    """Losses too far from the plain run's are failures."""
    judged = {}
    for one, (outcome, detail) in found.items():
        if outcome == "passed" and abs(float(detail) - expected) > TOLERANCE:
            outcome, detail = (
                "failed",
                f"the loss is {detail}, and {expected:.4f} without a session",
            )
        judged[one] = (outcome, detail)
    return judged


def table(found):
    """Rows of Markdown, one for each combination."""

    def short(name):
        return name.rpartition(":")[2]

    lines = ["| " + " | ".join([*KINDS, "result", "loss or reason"]) + " |"]
    lines.append("| " + " | ".join(["---"] * (len(KINDS) + 2)) + " |")
    for one, (outcome, detail) in found.items():
        cells = [short(getattr(one, kind)) for kind in KINDS]
        lines.append("| " + " | ".join([*cells, outcome, detail.replace("|", "\\|")]) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="Where to write the table.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = combinations()
    expected = plain()
    found = judge(outcomes(every), expected)
    counts = Counter(outcome for outcome, _ in found.values())
    summary = (
        f"{len(every)} combinations: "
        + ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "refused", "failed"))
        + "."
    )
    versions = sorted({(r.distribution, r.version) for r in installed().records()})
    parts = " Components of " + ", ".join(f"{name} {version}" for name, version in versions) + "."
    page = HEAD.format(
        steps=STEPS,
        tolerance=TOLERANCE,
        plain=expected,
        summary=summary + parts,
        torch=torch.__version__.partition("+")[0],
    ) + table(found)
    if options.file:
        options.file.write_text(page)
    for one, (outcome, detail) in found.items():
        if outcome != "passed":
            print(outcome, *(getattr(one, kind) for kind in KINDS), "-", detail)
    print(summary)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
