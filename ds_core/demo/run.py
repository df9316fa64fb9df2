"""The main job: train a small network on real images twice, plain and with passes, and compare."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

import ds_core as ds
from ds_core.compose import BEST
from ds_core.config import resolve
from ds_core.demo import data, measure
from ds_core.errors import DsError
from ds_core.report import Report

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.session import Session

BATCH = 128
IMAGES = 17_000
"""Images that a training sees by default, all epochs together."""

Progress = Callable[[str, int, int], None]
"""`progress(what, done, total)`, called after each step."""


class Figures(pydantic.BaseModel):
    """One training, as it was measured."""

    accuracy: float
    """Share of the test images that are classified rightly."""
    parameters: int
    nonzero_parameters: int
    multiply_adds: int
    """Of one image's forward."""
    saved_bytes: int
    """Kept by one batch's forward for its backward."""
    step_seconds: float
    """Median of one training step; both trainings' steps are timed in turns."""
    step_p10: float
    step_p90: float


class Comparison(pydantic.BaseModel):
    """Both trainings and what made the difference."""

    data: str
    train_images: int
    test_images: int
    skipped_files: int
    seed: int
    epochs: int
    steps: int
    before: Figures
    after: Figures
    session: Report
    """What the passes of the second training have to say."""


def run(
    folder: Path | None = None,
    *,
    epochs: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Comparison:
    """Train twice from the same seed and measure both models side by side.

    Args:
        folder: Images in one folder for each class; the bundled digits without it.
        epochs: Passes over the training images; as many as make about 17,000 images without it.
        seed: Of the split, the weights and the order of images.
        settings: Of the second training's session, as for `ds_core.config.resolve`; a precision
            and a pruner that nobody names are the best installed.
        progress: Told of each step.

    Raises:
        DsError: The data cannot be used, the passes do not fit, or training diverged.
    """
    images = data.load(folder, seed=seed)
    epochs = epochs or max(round(IMAGES / len(images.train)), 1)
    steps = epochs * math.ceil(len(images.train) / BATCH)
    chosen = dict(settings or {})
    named = resolve(options=chosen).config
    for kind in ("precision", "pruner"):
        if getattr(named, kind) is None and chosen.get(kind) is None:
            chosen[kind] = BEST
    with ExitStack() as stack:
        plain = _Job(images, epochs, seed, {"backend": named.backend.model_dump()}, plain=True)
        stack.enter_context(plain.session)
        passes = _Job(images, epochs, seed, {"total_steps": steps, **chosen})
        stack.enter_context(passes.session)
        jobs = [plain, passes]
        for job, what in zip(jobs, ("plain", "with passes"), strict=True):
            job.train(functools.partial(progress, what), steps)
        timings = measure.interleaved([job.one_step for job in jobs], repeats=20)
        before, after = (job.figures(timing) for job, timing in zip(jobs, timings, strict=True))
        return Comparison(
            data=images.name,
            train_images=len(images.train),
            test_images=len(images.test),
            skipped_files=images.skipped,
            seed=seed,
            epochs=epochs,
            steps=steps,
            before=before,
            after=after,
            session=passes.report,
        )


class _Job:
    """A model, its optimizer and its data; the training loop is the usual one."""

    def __init__(
        self,
        images: data.Dataset,
        epochs: int,
        seed: int,
        settings: Mapping[str, Any],
        *,
        plain: bool = False,
    ) -> None:
        import torch

        from ds_core.demo.net import ResidualNet

        torch.manual_seed(seed)
        self.images = images
        self.epochs = epochs
        self.scale = data.pixel_statistics(images.train)
        channels, side = images.train.images.shape[1], images.train.images.shape[-1]
        widths = (64, 128, 256) if side < data.SIDE else (16, 32, 64)
        self.model: Module = ResidualNet(channels, len(images.classes), widths)
        self.optimizer: Optimizer = torch.optim.SGD(
            self.model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        arguments = dict.fromkeys(("precision", "pruner", "topology"), "none") if plain else {}
        self.session: Session = ds.attach(
            self.model, self.optimizer, config={**arguments, **settings}
        )
        self.batches = data.Batches(
            images.train,
            BATCH,
            self.scale,
            generator=torch.Generator().manual_seed(seed),
            shift=True,
            mirror=images.photos,
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, 0.1, total_steps=epochs * len(self.batches), pct_start=0.25
        )

    def train(self, progress: Callable[[int, int], None], steps: int) -> None:
        import torch

        done = 0
        for _ in range(self.epochs):
            for x, y in self.batches:
                x, y = self.session.to_device(x, y)
                loss = torch.nn.functional.cross_entropy(self.model(x), y)
                if not math.isfinite(loss.item()):
                    raise DsError(
                        f"Training diverged: the loss of step {done + 1} is {loss.item()}.",
                        mend="Try another --seed, or leave out the passes one by one.",
                    )
                torch.autograd.backward(loss)
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.scheduler.step()
                done += 1
                progress(done, steps)
        # Before measuring, which takes steps of its own.
        self.report = self.session.report()
        test = data.Batches(self.images.test, 256, self.scale)
        self.accuracy = measure.accuracy(
            self.model, (self.session.to_device(x, y) for x, y in test)
        )
        self.x, self.y = self.session.to_device(*next(iter(self.batches)))
        self.counts = measure.parameters(self.model)

    def one_step(self) -> None:
        import torch

        torch.autograd.backward(torch.nn.functional.cross_entropy(self.model(self.x), self.y))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def figures(self, timing: measure.Timing) -> Figures:
        return Figures(
            accuracy=self.accuracy,
            parameters=self.counts.total,
            nonzero_parameters=self.counts.nonzero,
            multiply_adds=measure.multiply_adds(self.model, self.x),
            saved_bytes=measure.saved_bytes(self.model, self.x),
            step_seconds=timing.median,
            step_p10=timing.p10,
            step_p90=timing.p90,
        )
