"""Accuracy straight after a cut, without fine-tuning: ds-prune and Torch-Pruning.

    python plugins/ds-prune/benchmarks/one_shot.py [--data digits|PATH] [--ratio 0.3] [--seeds 5]
        [--epochs 30] [--train-images N] [--no-peer] [--json]

Two small networks are trained; then every layer loses the same share of its channels. Both tools
begin with the same weights. `magnitude` chooses as Torch-Pruning does; `taylor` sees gradients of
the loss on calibration images, training images without augmentation, which `fitted` methods also
use for least squares and for statistics of batch normalisations. With --data PATH, photos: some 12
epochs are enough.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from statistics import fmean
from typing import Any

import click
import torch
from images import DIGITS, HELP, load
from measuring import PEER, machine, number, spread, table, text, within
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ds_core.demo.data import Batches, Dataset, pixel_statistics
from ds_core.demo.measure import accuracy, multiply_adds, parameters
from ds_core.demo.net import ResidualNet


def plain(channels: int, classes: int) -> nn.Module:
    """Convolutions one after the other."""
    layers: list[nn.Module] = []
    for width, after in ((channels, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(width, after, 3, 1 + (width != after and width != channels), 1)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


MODELS: dict[str, Callable[[int, int], nn.Module]] = {
    "plain": plain,
    "residual": lambda channels, classes: ResidualNet(channels, classes, (16, 32, 64), 1),
}


def train(model: nn.Module, data: Dataset, seed: int, options: argparse.Namespace) -> None:
    """As usual."""
    generator = torch.Generator().manual_seed(seed)
    scale = pixel_statistics(data.train)
    batches = Batches(data.train, 64, scale, generator=generator, shift=True, mirror=data.photos)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = options.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps, cycle_momentum=False)
    model.train()
    for _ in range(options.epochs):
        for x, y in batches:
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    model.eval()


def methods(
    data: Dataset, options: argparse.Namespace
) -> dict[str, Callable[[nn.Module, Tensor], None]]:
    """What cuts a model, by name."""
    from ds_prune.one_shot import prune

    pairs = list(Batches(data.train, 64, pixel_statistics(data.train)))[: options.batches]
    inputs = [x for x, _ in pairs]

    def own(**given: Any) -> Callable[[nn.Module, Tensor], None]:
        def cut(model: nn.Module, x: Tensor) -> None:
            prune(model, x, ratio=options.ratio, **given)

        return cut

    learnt = {"data": pairs, "loss": cross_entropy, "criterion": "taylor"}
    found = {
        "magnitude": own(criterion="magnitude", recover=()),
        "magnitude, fitted": own(criterion="magnitude", data=inputs),
        "taylor": own(**learnt, recover=()),
        "taylor, fitted": own(**learnt),
    }
    if options.peer:
        from peer import cut

        def peers(model: nn.Module, x: Tensor) -> None:
            cut(model, x, options.ratio)

        def recalibrated(model: nn.Module, x: Tensor) -> None:
            peers(model, x)
            statistics_anew(model, inputs)

        found |= {PEER: peers, f"{PEER}, statistics anew": recalibrated}
    return found


def statistics_anew(model: nn.Module, inputs: list[Tensor]) -> None:
    """What one can do by hand without labels: running statistics of the cut model's own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for x in inputs:
            model(x)
    model.eval()


def main() -> None:
    """Train, cut, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=DIGITS, help=HELP)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--ratio", type=float, default=0.3, help="of each layer's channels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batches", type=int, default=8, help="of 64 calibration images")
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--test-images", type=int)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peer:
        from peer import require

        require()
    data = load(options.data, options.train_images, options.test_images)
    scale = pixel_statistics(data.train)
    cutters = methods(data, options)
    sample = next(iter(Batches(data.test, 2, scale)))[0]

    def tested(model: nn.Module) -> float:
        return accuracy(model, Batches(data.test, 500, scale))

    runs: list[dict[str, Any]] = []
    for name in options.models.split(","):
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            whole = MODELS[name](sample.shape[1], len(data.classes))
            train(whole, data, seed, options)
            before = parameters(whole).total, multiply_adds(whole, sample)
            runs.append({"model": name, "method": "whole", "seed": seed, "acc": tested(whole)})
            for method, cut in cutters.items():
                model = copy.deepcopy(whole)
                cut(model, sample)
                found = {"model": name, "method": method, "seed": seed, "acc": tested(model)}
                found["parameters"] = parameters(model).total / before[0]
                found["multiply_adds"] = multiply_adds(model, sample) / before[1]
                runs.append(found)
            click.echo(f"{name}, seed {seed}", err=True)
    heading = (
        f"{machine()}\n{data.name}: {len(data.train):,} images to learn from, {len(data.test):,} "
        f"to test on; {options.epochs} epochs; {options.ratio:.0%} of each layer's channels go"
    )
    if options.json:
        click.echo(json.dumps({"heading": heading, "runs": runs}, indent=1))
        return
    rows = []
    for name, method in dict.fromkeys((run["model"], run["method"]) for run in runs):
        own = [run for run in runs if (run["model"], run["method"]) == (name, method)]
        row: dict[str, Any] = {"model": name, "method": method}
        row["mean"], row["acc"] = fmean(run["acc"] for run in own), spread([r["acc"] for r in own])
        row["seeds"] = " ".join(f"{100 * run['acc']:.1f}" for run in own)
        if method != "whole":
            for key in ("parameters", "multiply_adds"):
                row[key] = fmean(run[key] for run in own)
        rows.append(row)
    columns = {
        "network": text("model"),
        "method": text("method"),
        "mean, %": number("mean", ".1f", "", 100),
        "median (p10-p90)": within("acc", ".1f", 100),
        "by seed": text("seeds"),
        "parameters": number("parameters", ".2f", "x"),
        "multiply-adds": number("multiply_adds", ".2f", "x"),
    }
    click.echo(f"{heading}\n\n{table(columns, rows)}")


if __name__ == "__main__":
    main()
