"""Speed up a segmentation model by what `ds inspect` advises, one finding after the other.

    python segmentation.py [--output FOLDER] [--size PIXELS] [--steps N] [--rounds N]

Each change is made only if the advice on the model as it is then names its finding. In the end all
versions run in turns, so that whatever else the machine does hits all alike; their latencies are
printed, and how far their outputs are from the first one's. The recordings of the first and the
last version are kept: `ds inspect view FOLDER/after.dsrec FOLDER/before.dsrec` shows the
differential flame graph.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ds_inspector import Recording, inspect
from ds_inspector.analysis.advice import advice
from ds_inspector.analysis.difference import difference
from ds_inspector.analysis.shift import ratio_of
from segmentation_model import ChannelNorm, Masks, Segmentation, Swish, segmentation
from torch import Tensor, nn
from torch.nn import functional

import ds_core
from ds_core.cli.output import echo_table


@dataclass(frozen=True)
class Version:
    """A model, its input, and the modes in which it is called."""

    model: Segmentation
    image: Tensor
    modes: tuple[Callable[[], AbstractContextManager[Any]], ...] = ()

    def within(self, stack: ExitStack) -> None:
        for mode in self.modes:
            stack.enter_context(mode())

    def __call__(self) -> tuple[Tensor, Tensor, list[float]]:
        with ExitStack() as stack:
            self.within(stack)
            return self.model(self.image)

    def recorded(self, steps: int, *collectors: str) -> Recording:
        with ExitStack() as stack:
            self.within(stack)
            return inspect(self.model, (self.image,), steps=steps, collectors=collectors)


@dataclass
class Stage:
    """A version, and the change that it was made by."""

    version: Version
    change: Callable[[Version], Version] | None = None
    finding: str = ""
    estimate: float | None = None
    seconds: list[float] = field(default_factory=list)
    """Of each round."""
    processor: list[float] = field(default_factory=list)
    """Likewise; unlike latency, it does not grow while others have the processor."""

    @property
    def title(self) -> str:
        return (self.change.__doc__ or "").rstrip(".") if self.change else "as it was written"


class AllMasks(nn.Module):
    """Masks of all classes at once; a share for each is read back in one go."""

    def forward(self, scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, list[float]]:
        masks = functional.interpolate(scores.float(), size, mode="bilinear") > 0
        return masks, masks.float().mean((0, 2, 3)).tolist()


class LastNorm(ChannelNorm):
    """The same without copies, where channels come last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def without_gradients(version: Version) -> Version:
    """`torch.inference_mode()`."""
    return replace(version, modes=(*version.modes, torch.inference_mode))


def together(version: Version) -> Version:
    """Masks of all classes in one operation."""
    return _swapped(version, Masks, lambda module: AllMasks())


def fused_activations(version: Version) -> Version:
    """`torch.nn.SiLU` in place of four operations."""
    return _swapped(version, Swish, lambda module: nn.SiLU())


def folded(version: Version) -> Version:
    """The transform `fold-bn`."""
    with torch.enable_grad():
        return replace(version, model=_fold(version.model, version.image))


def channels_last(version: Version) -> Version:
    """`channels_last`, and no copies in normalisations."""

    def last(module: ChannelNorm) -> LastNorm:
        module.__class__ = LastNorm
        return module

    version = _swapped(version, ChannelNorm, last)
    image = version.image.to(memory_format=torch.channels_last)
    return replace(version, model=version.model.to(memory_format=torch.channels_last), image=image)


def sixteen_bits(version: Version) -> Version:
    """Weights and image in bfloat16."""
    model = copy.deepcopy(version.model).to(torch.bfloat16)
    return replace(version, model=model, image=version.image.to(torch.bfloat16))


CHANGES: dict[str, Callable[[Version], Version]] = {
    "grad-mode": without_gradients,
    "loop-of-small-calls": together,
    "host-synchronisation": together,
    "unfused-elementwise": fused_activations,
    "batch-norm": folded,
    "slow-convolutions": channels_last,
    "layout-copies": channels_last,
    "slow-dtype": sixteen_bits,
}


def _swapped(version: Version, kind: type, made: Callable[[Any], nn.Module]) -> Version:
    model = copy.deepcopy(version.model)
    for name, module in list(model.named_modules()):
        if type(module) is kind:
            model.set_submodule(name, made(module))
    return replace(version, model=model)


def _fold(model: Segmentation, image: Tensor) -> Segmentation:
    # Only the levels have normalisations; what reads values back cannot be exported.
    model = copy.deepcopy(model)
    for number, level in enumerate(model.levels):
        example = torch.randn(1, level[0].in_channels, *image.shape[-2:]).to(image)
        model.levels[number] = ds_core.transform(level, "fold-bn", (example,))
    return model


def advised(version: Version, steps: int) -> dict[str, dict[str, Any]]:
    """What is found in a version, by the kind of finding."""
    recording = version.recorded(steps, "time", "lifetimes")
    return {one["id"]: one for one in advice(recording)["findings"]}


def timed(stages: Sequence[Stage], rounds: int) -> None:
    """Run all versions in turns."""
    for round_ in range(rounds + 2):
        for stage in stages:
            wall, processor = time.perf_counter(), time.process_time()
            stage.version()
            if round_ >= 2:
                stage.seconds.append(time.perf_counter() - wall)
                stage.processor.append(time.process_time() - processor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Find, change, measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--size", type=int, default=256, help="of the image")
    parser.add_argument("--steps", type=int, default=8, help="recorded of each version")
    parser.add_argument("--rounds", type=int, default=20, help="in which all versions are timed")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    model = segmentation()
    image = torch.randn(1, 3, options.size, options.size)
    stages = [Stage(Version(model, image))]
    found = advised(stages[0].version, options.steps)
    click.echo(f"{len(found)} findings in the model as it was written:")
    for one in found.values():
        click.echo(f"  {one['title']}: {one['evidence']}")
    while (finding := _next(found, stages)) is not None:
        change = CHANGES[finding]
        version = change(stages[-1].version)
        stages.append(Stage(version, change, finding, found[finding]["estimate"]))
        found = advised(version, options.steps)
        if finding in found:
            click.echo(f"Still there: {found[finding]['title']}. {found[finding]['evidence']}")
    recordings = []
    for name, stage in (("before", stages[0]), ("after", stages[-1])):
        recordings.append(stage.version.recorded(options.steps, "time", "lifetimes", "graph"))
        recordings[-1].save(options.output / f"{name}.dsrec")
    timed(stages, options.rounds)
    _tell(stages)
    _compare(*recordings)


def _next(found: dict[str, Any], stages: Sequence[Stage]) -> str | None:
    """What would save most of what can be changed and was not."""
    done = [stage.change for stage in stages]
    left = [name for name in found if name in CHANGES and CHANGES[name] not in done]
    # What changes results comes last.
    return min(left, key=lambda name: CHANGES[name] is sixteen_bits, default=None)


def _tell(stages: Sequence[Stage]) -> None:
    first = stages[0]
    scores, masks, _ = first.version()
    rows, last = [], first
    for stage in stages:
        other, mask, _ = stage.version()
        off = (other.float() - scores).norm() / scores.norm()
        same = (mask == masks).float().mean()
        estimate = "" if stage.estimate is None else f"{stage.estimate:.0%}"
        rows.append(
            [
                stage.title,
                stage.finding,
                estimate,
                f"{_saved(last.processor, stage.processor):.0%}" if stage.finding else "",
                f"{_saved(first.processor, stage.processor):.0%}",
                f"{statistics.median(stage.processor) * 1e3:.1f} ms",
                f"{statistics.median(stage.seconds) * 1e3:.1f} ms",
                f"{off:.1e}",
                f"{same:.2%}",
            ]
        )
        last = stage
    click.echo()
    echo_table(
        [
            "change",
            "finding",
            "estimate",
            "saved",
            "in all",
            "processor",
            "latency",
            "error",
            "same mask",
        ],
        rows,
    )
    ratio = ratio_of(np.array(first.seconds), np.array(stages[-1].seconds))
    low, high = (1 - (bound or ratio.middle) for bound in (ratio.high, ratio.low))
    click.echo(
        f"\nLatency is {1 - ratio.middle:.0%} lower ({low:.0%} to {high:.0%} with 95% confidence, "
        f"from {len(first.seconds)} rounds), processor time "
        f"{_saved(first.processor, stages[-1].processor):.0%}."
    )


def _saved(before: Sequence[float], after: Sequence[float]) -> float:
    """The median of the shares saved in each round, in which both ran in turn."""
    return 1 - statistics.median(new / old for old, new in zip(before, after, strict=True))


def _compare(before: Recording, after: Recording) -> None:
    found = difference(before, after)
    steps = found["steps"]
    click.echo(
        f"Recorded steps: {steps['before']['median'] * 1e3:.1f} ms before, "
        f"{steps['after']['median'] * 1e3:.1f} ms after. Operators that changed most:"
    )
    rows = [
        [
            row["op"],
            f"{row['before'] * 1e3:.2f} ms",
            f"{row['after'] * 1e3:.2f} ms",
            f"{row['change'] * 1e3:+.2f} ms",
            "yes" if row["sure"] else "",
        ]
        for row in found["operators"][:10]
    ]
    echo_table(["operator", "before", "after", "change", "sure"], rows)


if __name__ == "__main__":
    main()
