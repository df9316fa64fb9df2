"""Networks pruned while they train on CIFAR-10: dense, ds-prune and Torch-Pruning.

    python plugins/ds-prune/benchmarks/training.py --data PATH [--short]
        [--models mobilenet,resnet56] [--seeds 3] [--epochs 60] [--train-images N] [--no-peer]

All get the same data, initial weights, batches, rates and number of steps. ds-prune is attached
to the loop with its target and decides by its own schedule. Torch-Pruning cuts once, after
`--peer-at` of the epochs, by magnitude with layers competing, in small steps until the target is
reached; then the loop goes on. Parameters and multiply-adds are counted on the models as they end;
forwards are timed as torch runs them and, exported, as onnxruntime does, which small devices use.

`--short` is for CPUs: about ten minutes on one core. Its accuracies are those of chance and say
nothing; shares and times are what it is for. The full comparison, on a GPU:

    python plugins/ds-prune/benchmarks/training.py --data PATH --epochs 120 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import onnxruntime
import torch
from ds_prune.exporting import export
from images import HELP, load
from measuring import PEER, in_turns, machine, met, number, ratios, spread, table, text, within
from networks import PUBLISHED, MobileNetV3Large, ResNet56
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ds_core as ds
from ds_core.demo.data import Batches, Dataset, pixel_statistics
from ds_core.demo.measure import accuracy, multiply_adds, parameters

GOAL_SPEED = 1.8
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet": lambda: MobileNetV3Large(10, small_images=True),
    "resnet56": ResNet56,
}
SHORT = {"epochs": 4, "train_images": 600, "test_images": 500, "seeds": 1, "batch": 64}
PEER_STEPS, PEER_MOST = 100, 0.9
"""Steps in which Torch-Pruning would take out the share of channels that is the most it may."""


class Training:
    """One network, its optimizer, its schedule and its batches."""

    def __init__(self, name: str, seed: int, data: Dataset, options: argparse.Namespace) -> None:
        torch.manual_seed(seed)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = MODELS[name]().to(self.device)
        self.scale, self.options = pixel_statistics(data.train), options
        generator = torch.Generator().manual_seed(seed)
        self.batches = Batches(
            data.train, options.batch, self.scale, generator=generator, shift=True, mirror=True
        )
        self.steps, self.step = options.epochs * len(self.batches), 0
        self.renew()

    def renew(self) -> None:
        """An optimizer for the parameters as they are, whose schedule goes on."""
        rate = self.options.rate
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rate, self.steps, pct_start=0.2, cycle_momentum=False
        )
        for _ in range(self.step):
            self.schedule.step()

    def epoch(self) -> None:
        """The loop, which knows nothing of pruning."""
        self.model.train()
        for x, y in self.batches:
            loss = cross_entropy(self.model(x.to(self.device)), y.to(self.device))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
            self.step += 1

    def sample(self, count: int) -> Tensor:
        """Normalised test images."""
        return torch.randn(count, 3, 32, 32, device=self.device)


def dense(training: Training, options: argparse.Namespace) -> None:
    """Nothing is pruned."""
    for _ in range(options.epochs):
        training.epoch()


def ours(training: Training, options: argparse.Namespace) -> None:
    """`ds.attach`, and the same loop."""
    pruner = {
        "name": "channel",
        "params": options.params,
        "flops": options.flops,
        "latency": options.latency,
    }
    with ds.attach(
        training.model,
        training.optimizer,
        backend=training.device,
        precision="none",
        pruner=pruner | options.channel,
        config={"total_steps": training.steps},
    ):
        dense(training, options)


def peers(training: Training, options: argparse.Namespace) -> None:
    """Train, cut, train on."""
    from peer import pruner

    at = round(options.peer_at * options.epochs)
    for epoch in range(options.epochs):
        if epoch == at:
            model, x = training.model.eval(), training.sample(1)
            most = parameters(model).total * options.params, multiply_adds(model, x) * options.flops
            cutter = pruner(
                model,
                training.sample(2),
                PEER_MOST,
                global_pruning=True,
                max_ratio=PEER_MOST,
                steps=PEER_STEPS,
            )
            for _ in range(PEER_STEPS):
                if parameters(model).total <= most[0] and multiply_adds(model, x) <= most[1]:
                    break
                with torch.enable_grad():
                    cutter.step()
            training.renew()
        training.epoch()


def run(name: str, seed: int, data: Dataset, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One seed with all methods."""
    methods = {"dense": dense, "ds-prune": ours} | ({PEER: peers} if options.peer else {})
    found, models = [], {}
    for method, train in methods.items():
        training = Training(name, seed, data, options)
        train(training, options)
        model = models[method] = training.model.eval()
        tests = Batches(data.test, 500, training.scale)
        device = training.device
        row: dict[str, Any] = {"model": name, "method": method, "seed": seed}
        row["accuracy"] = accuracy(model, ((x.to(device), y.to(device)) for x, y in tests))
        row["parameters"] = parameters(model).total
        row["multiply_adds"] = multiply_adds(model, training.sample(1))
        found.append(row)
        click.echo(json.dumps(row), err=True)
    for runtime, make in RUNTIMES.items():
        for batch in BATCHES:
            x = training.sample(batch)
            calls = [make(model, x) for model in models.values()]
            seconds = in_turns(calls, options.rounds, warm_up=5, cpu_time=options.cpu_time)
            for row, own in zip(found, seconds, strict=True):
                row[f"seconds {runtime} {batch}"] = spread(own)
                row[f"speed {runtime} {batch}"] = ratios(seconds[0], own)
    return found


def eager(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """A call without gradients."""

    def call() -> Tensor:
        with torch.inference_mode():
            scores: Tensor = model(x)
            return scores

    return call


def exported(model: nn.Module, x: Tensor) -> Callable[[], Any]:
    """The same by onnxruntime, on the CPU, with as many threads as torch has."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model.cpu(), (x.cpu(),), file)
        model.to(x.device)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file.read_bytes(), settings)
    inputs = {session.get_inputs()[0].name: x.cpu().numpy()}
    return lambda: session.run(None, inputs)


BATCHES = 1, 32
RUNTIMES: dict[str, Callable[[nn.Module, Tensor], Callable[[], Any]]] = {
    "torch": eager,
    "onnxruntime": exported,
}


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each network and method; timings are those of the median seed."""
    rows = []
    for name, method in dict.fromkeys((one["model"], one["method"]) for one in runs):
        own = [one for one in runs if (one["model"], one["method"]) == (name, method)]
        whole = [one for one in runs if (one["model"], one["method"]) == (name, "dense")]
        row: dict[str, Any] = {"model": name, "method": method}
        row["accuracy"] = fmean(one["accuracy"] for one in own)
        row["seeds"] = " ".join(f"{100 * one['accuracy']:.2f}" for one in own)
        row["lost"] = fmean(one["accuracy"] for one in whole) - row["accuracy"]
        for key in ("parameters", "multiply_adds"):
            row[key] = max(a[key] / b[key] for a, b in zip(own, whole, strict=True))
        middle = sorted(own, key=lambda one: one["speed torch 1"]["median"])[len(own) // 2]
        row |= {key: one for key, one in middle.items() if key.startswith(("seconds", "speed"))}
        rows.append(row)
    return rows


def goals(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """A line for each goal of each network."""
    lines = []
    by = {(row["model"], row["method"]): row for row in rows}
    for name in dict.fromkeys(row["model"] for row in rows):
        own, other = by[name, "ds-prune"], by.get((name, PEER))
        checks = {
            f"parameters <= {options.params}x": own["parameters"] <= options.params,
            f"multiply-adds <= {options.flops}x": own["multiply_adds"] <= options.flops,
        }
        for runtime in RUNTIMES:
            for batch in BATCHES:
                speed = own[f"speed {runtime} {batch}"]["median"]
                checks[f">= {GOAL_SPEED}x as fast by {runtime} at batch {batch}"] = (
                    speed >= GOAL_SPEED
                )
        if other is not None and not options.short:
            checks[f"accuracy not below {PEER}'s"] = own["accuracy"] >= other["accuracy"]
        lines += [f"{name}: {what}: {met(reached)}" for what, reached in checks.items()]
    return lines


def published() -> str:
    """Whether the network is the paper's."""
    model = MobileNetV3Large()
    counts = parameters(model).total, multiply_adds(model, torch.randn(1, 3, 224, 224))
    said = [
        f"{count / 1e6:.2f}M {what} ({count / paper - 1:+.1%} of {paper / 1e6:g}M)"
        for count, paper, what in zip(
            counts, PUBLISHED, ("parameters", "multiply-adds"), strict=True
        )
    ]
    return f"MobileNetV3-Large at 224x224, 1000 classes: {', '.join(said)}"


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help=HELP)
    parser.add_argument("--short", action="store_true", help=", ".join(SHORT))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--params", type=float, default=0.42, help="share that is kept at most")
    parser.add_argument("--flops", type=float, default=0.37, help="share that is kept at most")
    parser.add_argument("--latency", type=float, help="share that is kept at most")
    parser.add_argument("--channel", type=json.loads, default={}, help="other options, as JSON")
    parser.add_argument("--peer-at", type=float, default=0.5, help="share of epochs before its cut")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--train-images", type=int, help="all without it")
    parser.add_argument("--test-images", type=int, help="all without it")
    parser.add_argument("--rounds", type=int, default=40, help="of timing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="time by the process's own clock")
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--json", action="store_true")
    first, _ = parser.parse_known_args()
    parser.set_defaults(**(SHORT if first.short else {}))
    options = parser.parse_args()
    if options.peer:
        from peer import require

        require()
    torch.set_num_threads(options.threads)
    data = load(options.data, options.train_images, options.test_images)
    names, seeds = options.models.split(","), range(options.seeds)
    runs = [row for name in names for seed in seeds for row in run(name, seed, data, options)]
    heading = (
        f"{machine()}\n{published()}\n{data.name}: {len(data.train):,} images to learn from, "
        f"{len(data.test):,} to test on; {options.epochs} epochs of batches of {options.batch}"
    )
    if options.json:
        click.echo(json.dumps({"heading": heading, "runs": runs}, indent=1))
        return
    rows = summary(runs)
    columns = {
        "network": text("model"),
        "method": text("method"),
        "accuracy, %": number("accuracy", ".2f", "", 100),
        "by seed": text("seeds"),
        "lost, points": number("lost", ".2f", "", 100),
        "parameters": number("parameters", ".3f", "x"),
        "multiply-adds": number("multiply_adds", ".3f", "x"),
    }
    for runtime in RUNTIMES:
        for batch in BATCHES:
            of, where = f"{runtime} {batch}", f"{runtime}, batch {batch}"
            columns[f"ms, {where}"] = within(f"seconds {of}", ".2f", 1e3)
            columns[f"speed, {where}"] = within(f"speed {of}", ".2f")
    click.echo(f"{heading}\n\n{table(columns, rows)}\n")
    click.echo("\n".join(goals(rows, options)))


if __name__ == "__main__":
    main()
