"""Accuracy on CIFAR-10 by precision policy, of a residual net and of a vision transformer.

    python plugins/ds-dmp/benchmarks/accuracy.py --data DIR [--seeds 3] [--epochs 12]
        [--train-images 10000] [--policies fp32,bf16,dmp,lean,lean+] [--models resnet,vit] [--json]

DIR holds `train/<class>/*.jpg` and `test/<class>/*.jpg`, or `cifar10-jpeg.tar.xz` with those in it,
which is decoded once and kept in ds-core's cache folder (`DS_CACHE_DIR`). With one seed, policies
get the same initial weights, batches, shifts, mirror images and rates. A policy's accuracy is that
of the policy itself, not of its weights in float32. Where no 16-bit dtype is fast, bfloat16 is
emulated as accelerators compute it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click
import numpy
import torch
from measuring import Arithmetic, arithmetic, details, met, number, table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ds_core as ds
from ds_core.components import disk_cache
from ds_core.demo.data import Batches, Dataset, Split, image_folder, pixel_statistics
from ds_core.demo.measure import accuracy
from ds_core.demo.net import ResidualNet

ARCHIVE = "cifar10-jpeg.tar.xz"
GOAL = 0.997
"""Of float32's accuracy."""


class Vit(nn.Module):
    """A vision transformer: patches of 4x4, their average read by a linear layer."""

    def __init__(self, width: int = 128, depth: int = 4, heads: int = 4, patch: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.places = nn.Parameter(torch.randn(1, (32 // patch) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), False)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Scores `[N, 10]` of images `[N, 3, 32, 32]`."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.places
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: ResidualNet(3, 10, (16, 32, 64), 2),
    "vit": Vit,
}
POLICIES: dict[str, str | dict[str, Any]] = {
    "fp32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
    "dmp": {"name": "dmp"},
    "lean": {"name": "dmp", "memory": "lean"},
    "lean+": {"name": "dmp", "memory": "lean+"},
}


def load(folder: Path) -> Dataset:
    """The images, decoded now or before."""
    archive = folder / ARCHIVE
    if not archive.exists():
        return image_folder(folder)
    state = archive.stat()
    identity = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    cache = (disk_cache.folder() or Path(tempfile.gettempdir())) / (
        f"cifar10-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"
    )
    if not cache.exists():
        with tempfile.TemporaryDirectory() as unpacked, tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
            data = image_folder(Path(unpacked))
        tensors = {"x": data.train.images, "y": data.train.labels}
        tensors |= {"test_x": data.test.images, "test_y": data.test.labels}
        cache.parent.mkdir(parents=True, exist_ok=True)
        numpy.savez(cache, **{name: tensor.numpy() for name, tensor in tensors.items()})
    with numpy.load(cache) as file:
        x, y, test_x, test_y = (torch.from_numpy(file[n]) for n in ("x", "y", "test_x", "test_y"))
    classes = tuple(map(str, range(10)))
    return Dataset("cifar10", classes, Split(x, y), Split(test_x, test_y), True)


def shortened(data: Dataset, train: int | None, test: int | None) -> Dataset:
    """The first images of a fixed shuffling, which all trainings see."""

    def some(split: Split, count: int | None) -> Split:
        chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
        return Split(split.images[chosen], split.labels[chosen])

    return replace(data, train=some(data.train, train), test=some(data.test, test))


def train(
    model_name: str,
    policy: str,
    seed: int,
    data: Dataset,
    place: Arithmetic,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Train once, and test."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    model = MODELS[model_name]().to(place.device)
    scale, generator = pixel_statistics(data.train), torch.Generator().manual_seed(seed)
    batches = Batches(
        data.train, options.batch, scale, generator=generator, shift=True, mirror=data.photos
    )
    steps = options.epochs * len(batches)
    optimizer: torch.optim.Optimizer
    if model_name == "vit":
        rate = 1e-3
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    else:
        rate = 0.2
        optimizer = torch.optim.SGD(
            model.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=0.2, cycle_momentum=False
    )
    precision = POLICIES[policy]
    if isinstance(precision, dict):
        precision = {**precision, "cost_gate": not place.emulated, **options.dmp}
    session = ds.attach(model, optimizer, backend=place.backend, precision=precision, config={})
    for _ in range(options.epochs):
        for batch in batches:
            x, y = session.to_device(*batch)
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    tests = map(session.to_device, Batches(data.test, 500, scale))
    found = {"model": model_name, "policy": policy, "seed": seed, "loss": loss.item()}
    found["accuracy"] = accuracy(model, tests)
    said = details(session)
    found |= {"share": said.get("16-bit share of multiply-adds"), "flips": said.get("flips")}
    session.detach()
    return found | {"steps": steps, "seconds": time.perf_counter() - start}


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each model and policy; ratios are to float32 of the same seed."""
    rows = []
    plain = [one for one in found if one["policy"] == "fp32"]
    base = {(one["model"], one["seed"]): one["accuracy"] for one in plain}
    for model, policy in dict.fromkeys((one["model"], one["policy"]) for one in found):
        own = [one for one in found if (one["model"], one["policy"]) == (model, policy)]
        scores = [one["accuracy"] for one in own]
        row: dict[str, Any] = {"model": model, "policy": policy, "mean": fmean(scores)}
        row["spread"] = stdev(scores) if len(scores) > 1 else None
        row["seconds"] = fmean(one["seconds"] for one in own)
        if base:
            row["ratios"] = [one["accuracy"] / base[model, one["seed"]] for one in own]
            row["ratio"] = row["mean"] / fmean(base[model, one["seed"]] for one in own)
            row["met"] = None if policy == "fp32" else row["ratio"] >= GOAL
        for key in ("share", "flips"):
            values = [one[key] for one in own if one[key] is not None]
            row[key] = fmean(values) if values else None
        rows.append(row)
    return rows


def main() -> None:
    """Train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--policies", default="fp32,bf16,dmp")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--train-images", type=int, help="all without it")
    parser.add_argument("--test-images", type=int, help="all without it")
    parser.add_argument("--dmp", type=json.loads, default={}, help="options of dmp, as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = shortened(load(options.data), options.train_images, options.test_images)
    size = f"{len(data.train):,} images to learn from, {len(data.test):,} to test on"
    found = []
    with arithmetic(emulate=True) as place:
        heading = f"CIFAR-10 as JPEG: {size}; {options.epochs} epochs\n{place.heading()}"
        for model in options.models.split(","):
            for seed in range(options.seeds):
                for policy in options.policies.split(","):
                    found.append(train(model, policy, seed, data, place, options))
                    click.echo(json.dumps(found[-1]), err=True)
    if options.json:
        click.echo(json.dumps({"heading": heading, "runs": found}, indent=1))
        return
    columns = {
        "model": lambda row: row["model"],
        "policy": lambda row: row["policy"],
        "accuracy": number("mean", ".2%", ""),
        "+-": number("spread", ".2%", ""),
        "ratio": number("ratio", ".4f"),
        "by seed": lambda row: " ".join(f"{one:.4f}" for one in row.get("ratios", [])),
        f">= {GOAL}x": met,
        "16-bit share": number("share", ".1%", ""),
        "flips": number("flips", ".1f", ""),
        "a training": number("seconds", ".0f", " s"),
    }
    click.echo(f"{heading}\n\n{table(columns, summary(found))}")


if __name__ == "__main__":
    main()
