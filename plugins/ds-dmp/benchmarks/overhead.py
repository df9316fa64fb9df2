"""What it costs that `dmp` watches: against the same dtypes, fixed, without a look.

    python plugins/ds-dmp/benchmarks/overhead.py [--windows 6] [--every 100] [--json]

Both sessions are past the first looks, which are closer together, and have decided alike; then one
is told, by its state, that the next look is never. Steps alternate between the two and, for
comparison, static autocast by hand. A window is `every` steps and holds one look: its forward and
backward, and the reading of it after the next step. The ratio is of sums over a window.

Where no 16-bit dtype is fast, bfloat16 is emulated: a step then takes about as long as in float32,
and so does a look.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import click
import torch
from measuring import (
    Arithmetic,
    Job,
    Training,
    arithmetic,
    details,
    in_turns,
    met,
    number,
    spread,
    table,
    timing_options,
    within,
)
from torch import nn
from torch.nn.functional import cross_entropy

from ds_core.demo.net import ResidualNet
from ds_core.session import Session

GOAL = 1.02
NEVER = 10**12


def mlp(device: str) -> Job:
    """Wide layers, of which a look computes samples again."""
    width = 2048
    layers = [nn.Linear(1024, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return _job(nn.Sequential(*layers, nn.Linear(width, 10)), torch.randn(128, 1024), device)


def convolutions(device: str) -> Job:
    """A residual network on images of 32x32."""
    return _job(ResidualNet(3, 10, (32, 64, 128)), torch.randn(16, 3, 32, 32), device)


def transformer(device: str) -> Job:
    """One block of an encoder, and a linear layer on what it makes of the first token."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.TransformerEncoderLayer(512, 8, 2048, 0.0, batch_first=True)
            self.head = nn.Linear(512, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.block(x)[:, 0])
            return scores

    return _job(Encoder(), torch.randn(4, 64, 512), device)


JOBS: dict[str, Callable[[str], Job]] = {
    "MLP, 3 layers of 2048": mlp,
    "residual net": convolutions,
    "transformer block of 512": transformer,
}


def _job(model: nn.Module, x: torch.Tensor, device: str) -> Job:
    y = torch.randint(0, 10, x.shape[:1])
    x, y = x.to(device), y.to(device)
    return Job(model.to(device), lambda net: cross_entropy(net(x).float(), y))


def measure(name: str, place: Arithmetic, options: argparse.Namespace) -> dict[str, Any]:
    """One model's ratios."""
    dmp = {"name": "dmp", "every": options.every, "cost_gate": not place.emulated}
    trainings = []
    for policy in (dmp, dmp, "autocast"):
        torch.manual_seed(0)
        trainings.append(Training(JOBS[name](place.device), place, policy))
    # The look at step `every` is read after the step that follows; the next one is at twice that.
    for _ in range(options.every + 1):
        for training in trainings:
            training.step()
    sessions = [training.session for training in trainings if training.session is not None]
    stop_looking(sessions[1])
    steps = [training.step for training in trainings]
    windows = [
        in_turns(steps, options.every, place, options.cpu_time) for _ in range(options.windows)
    ]
    chosen = [[row["dtype"] for row in details(session)["layers"]] for session in sessions]
    for session in sessions:
        session.detach()
    plain = spread([seconds for _, fixed, _ in windows for seconds in fixed])
    ratio = spread([sum(watched) / sum(fixed) for watched, fixed, _ in windows])
    # The last two steps of a window: the one that is looked at, and the one after which it is read.
    look = [
        (sum(watched[-2:]) - sum(fixed[-2:])) / plain["median"] for watched, fixed, _ in windows
    ]
    return {
        "model": name,
        "layers": len(chosen[0]),
        "in 16 bit": sum(dtype != "fp32" for dtype in chosen[0]),
        "same": chosen[0] == chosen[1],
        "step": plain,
        "ratio": ratio,
        "met": ratio["median"] <= GOAL,
        "look": spread(look),
        "by looks": 1 + median(look) / options.every,
        "fixed to autocast": spread([sum(fixed) / sum(auto) for _, fixed, auto in windows]),
    }


def stop_looking(session: Session) -> None:
    """Have a session keep the dtypes that it has."""
    state = session.state_dict()
    for part in state["components"]:
        if part["kind"] == "precision":
            part["state"]["next_look"] = NEVER
    session.load_state_dict(state)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=6)
    parser.add_argument("--every", type=int, default=100, help="steps between looks")
    timing_options(parser)
    options = parser.parse_args()
    if options.windows < 2 or options.every < 4:
        parser.error("It needs 2 windows at least, and 4 steps between looks.")
    torch.set_num_threads(options.threads)
    with arithmetic(emulate=True) as place:
        heading = place.heading()
        rows = [measure(name, place, options) for name in JOBS]
    if options.json:
        click.echo(json.dumps({"heading": heading, "rows": rows}, indent=1))
        return
    columns = {
        "model": lambda row: row["model"],
        "16 bit": lambda row: f"{row['in 16 bit']} of {row['layers']}",
        "one step, ms": within("step", ".1f", 1e3),
        "dmp/fixed": within("ratio"),
        f"<= {GOAL}x": met,
        "one look, steps": within("look", ".2f"),
        "ratio by looks": number("by looks"),
        "fixed/autocast": within("fixed to autocast"),
        "same dtypes": lambda row: "yes" if row["same"] else "no",
    }
    click.echo(
        f"{heading}\n\n{options.windows} windows of {options.every} steps; medians (p10-p90)"
    )
    click.echo(table(columns, rows))


if __name__ == "__main__":
    main()
