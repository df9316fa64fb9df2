"""What users can set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from ds_core.components import Options
from ds_prune.target import Multiple, Removed, Share, Target, multiple


class ChannelOptions(Options):
    """How small the model is to become, by which criterion, and when."""

    flops: Share | None = None
    """Share of the multiply-adds that is kept at most; 0.5 where no target is given."""
    params: Share | None = None
    """Share of the parameters that is kept at most."""
    latency: Share | None = None
    """Share of the measured time of a forward that is kept at most."""
    ratio: Removed | None = None
    """Share of its channels that every layer loses at least."""
    layers: dict[str, Removed] = {}
    """Share of the channels that single layers lose at least, by name; 0 keeps a layer whole."""
    min_kept: Share = 0.1
    """Share of each layer's channels that stays at least."""
    keep: tuple[str, ...] = ()
    """Names of modules whose output channels stay whole."""
    criterion: str = "taylor"
    """What says how much a channel is missed: `taylor`, `magnitude`, `fpgm`, `random`, or one that
    another distribution brings."""
    criterion_options: dict[str, Any] = {}
    """Options of the criterion."""
    scope: Literal["global", "layer"] = "global"
    """Whether channels of all layers compete, or each layer loses the same share."""
    normalised: bool = False
    """Take channels whose statistics a LayerNorm takes together, too: the model changes by more
    than what they carry."""
    round_to: Annotated[Multiple, pydantic.BeforeValidator(multiple)] = "auto"
    """Of what widths of shrunken layers are a multiple. `auto`: of 8, and of less in narrow layers;
    `measured`: of what the device makes use of."""
    begin: int = pydantic.Field(default=0, ge=0)
    """The step after which channels begin to go."""
    freeze: int | None = pydantic.Field(default=None, ge=1)
    """The step of the last choice; three quarters of the way to `end` without it."""
    end: int | None = pydantic.Field(default=None, ge=1)
    """The step after which channels are removed from the model; without one, three quarters of
    the session's `total_steps`, or 1000."""
    every: int = pydantic.Field(default=10, ge=1)
    """Steps between two choices."""
    decay: float = pydantic.Field(default=0.5, ge=0, lt=1)
    """What a closing gate keeps of itself in each choice."""
    tolerance: float | None = pydantic.Field(default=None, gt=0)
    """Largest relative error of the small model's outputs in the proof; by their dtype without."""
    save: Path | None = None
    """Folder to which rank 0 writes the plan when channels are removed."""
    picture: Path | None = None
    """File in which rank 0 shows what was kept of each layer over the training: .html, .svg or
    .png."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ChannelOptions:
        self.target()
        end, freeze = self.end, self.freeze
        if end is not None and end <= self.begin:
            raise ValueError(f"it ends at step {end}, before it begins (step {self.begin})")
        if freeze is not None and not self.begin < freeze <= (end or freeze):
            raise ValueError(f"freeze={freeze} must be after begin and not after end")
        return self

    def target(self) -> Target:
        """What must be reached."""
        fields = ("flops", "params", "latency", "ratio")
        given = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        if not given and not self.layers:
            given["flops"] = 0.5
        return Target(**given, layers=self.layers, min_kept=self.min_kept)
