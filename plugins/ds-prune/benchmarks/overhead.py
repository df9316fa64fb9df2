"""What pruning costs a training step: against the plain loop, before gates close and after.

    python plugins/ds-prune/benchmarks/overhead.py [--windows 8] [--every 10] [--json]

Three copies of each model take steps in turns: one alone, one attached whose gates are all open
and watched, and one half of whose multiply-adds are gated away. A window is `every` steps, so that
it holds one choice, and ratios are of sums over a window. The first step, in which the model is
analysed, is left out and given by itself.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import click
import torch
from measuring import in_turns, machine, met, number, ratios, spread, table, text, within
from networks import MobileNetV3Large
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ds_core as ds
from ds_core.demo.net import ResidualNet

GOAL = 1.05
FAR = 10**9
"""A step that is not reached."""


class Encoder(nn.Module):
    """Two blocks of a transformer's encoder, and a linear layer on the average of tokens."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `[N, 10]` of `[N, length, width]`."""
        scores: Tensor = self.head(self.blocks(x).mean(1))
        return scores


JOBS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual net": (lambda: ResidualNet(3, 10, (32, 64, 128)), (32, 3, 32, 32)),
    "mobilenet-v3": (lambda: MobileNetV3Large(10, small_images=True), (16, 3, 32, 32)),
    "transformer": (Encoder, (16, 64, 256)),
}


class Training:
    """Steps on one batch; with `pruner`, attached."""

    def __init__(self, name: str, pruner: dict[str, Any] | None) -> None:
        torch.manual_seed(0)
        make, shape = JOBS[name]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = make().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        self.x = torch.randn(shape, device=device)
        self.y = torch.randint(10, shape[:1], device=device)
        self.session = pruner and ds.attach(
            self.model,
            self.optimizer,
            backend=device,
            precision="none",
            pruner={"name": "channel", "flops": 0.5, **pruner},
            config={},
        )

    def step(self) -> None:
        """As in any loop."""
        cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model's ratios."""
    every = options.every
    closed = 2 * every
    trainings = [
        Training(name, None),
        Training(name, {"every": every, "begin": FAR - 2, "end": FAR}),
        Training(name, {"every": every, "freeze": FAR - 1, "end": FAR}),
        Training(name, {"every": every, "freeze": closed, "end": FAR}),
    ]
    start = time.perf_counter()
    trainings[1].step()
    first = time.perf_counter() - start
    for training in trainings:
        for _ in range(closed):
            training.step()
    sums = []
    for _ in range(options.windows):
        calls = [training.step for training in trainings]
        found = in_turns(calls, every, warm_up=0, cpu_time=options.cpu_time)
        sums.append([sum(seconds) for seconds in found])
    plain, watched, choosing, gated = (list(one) for one in zip(*sums, strict=True))
    row: dict[str, Any] = {"model": name, "step": spread([one / every for one in plain])}
    row["first"] = first
    names = ("before", "choosing", "gated")
    for what, own in zip(names, (watched, choosing, gated), strict=True):
        row[what] = ratios(own, plain)
    row["met"] = met(max(row[what]["median"] for what in names) <= GOAL)
    for training in trainings:
        if training.session:
            training.session.detach()
    return row


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--every", type=int, default=10, help="steps between choices")
    parser.add_argument("--models", default=",".join(JOBS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time", action="store_true", help="the process's own time, for busy machines"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.windows < 2 or options.every < 2:
        parser.error("It needs 2 windows at least, and 2 steps between choices.")
    torch.set_num_threads(options.threads)
    rows = [measure(name, options) for name in options.models.split(",")]
    if options.json:
        click.echo(json.dumps({"heading": machine(), "rows": rows}, indent=1))
        return
    columns = {
        "model": text("model"),
        "plain step, ms": within("step", ".1f", 1e3),
        "before gates close": within("before"),
        "while choosing": within("choosing"),
        "gates closed": within("gated"),
        f"<= {GOAL}x": text("met"),
        "first step, s": number("first", ".1f"),
    }
    click.echo(
        f"{machine()}\n\n{options.windows} windows of {options.every} steps; medians (p10-p90)"
    )
    click.echo(table(columns, rows))


if __name__ == "__main__":
    main()
