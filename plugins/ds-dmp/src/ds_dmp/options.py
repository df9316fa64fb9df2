"""What users can set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic

from ds_core.components import Options


class DmpOptions(Options):
    """When layers are watched, what counts as unstable, and what memory may cost."""

    dtypes: Literal["auto"] | tuple[Literal["bf16", "fp16"], ...] = "auto"
    """16-bit dtypes to choose from, the preferred one first; `auto` takes the one that the backend
    measured as best. With float16 among them, gradients carry a loss scale."""
    every: int = pydantic.Field(default=100, ge=1)
    """Steps between two looks at the layers. The first looks are closer: steps 1, 2, 4, 8, ..."""
    group: Literal["layer", "block"] = "layer"
    """What changes its dtype as one: a layer, or a block of a `ModuleList` or `Sequential`."""
    error_limit: float = pydantic.Field(default=0.05, gt=0, lt=1)
    """Relative error of a layer's products, forward or backward, above which it is unstable; of
    outputs it is taken against what they vary by, not against their common offset."""
    impact_limit: float = pydantic.Field(default=0.01, gt=0)
    """How far a layer's rounding errors may move the loss, in parts of what the variation of the
    model's outputs moves it by; only a layer that stands out from the others counts."""
    flush_limit: float = pydantic.Field(default=0.05, gt=0, lt=1)
    """Share of a layer's gradients that may vanish in float16."""
    logit_limit: float = pydantic.Field(default=0.1, gt=0)
    """Expected rounding error of attention's logits above which attention is unstable."""
    sustain: int = pydantic.Field(default=2, ge=1)
    """Looks in a row that must find a layer unstable; four times a limit counts at once."""
    patience: int = pydantic.Field(default=4, ge=1)
    """Quiet looks in a row before a layer goes back to 16 bit; doubled whenever it relapses."""
    max_flips: int = pydantic.Field(default=8, ge=1)
    """Changes of dtype in one look; those in greatest need go first."""
    cost_gate: bool = True
    """Measure each shape of layer once and leave those in float32 that 16 bit makes slower; then
    compare whole steps, and leave all in float32 where it is faster."""
    schedule: Literal["dynamic", "progressive"] = "dynamic"
    """`progressive` begins in float32; layers enter 16 bit one after another, safest first."""
    warmup: int | None = pydantic.Field(default=None, ge=0)
    """Steps of `progressive` in float32; a twentieth of `total_steps`, or 100, without it."""
    ramp: int | None = pydantic.Field(default=None, ge=0)
    """Steps after them in which layers enter; twice the warm-up without it."""
    tail: int = pydantic.Field(default=0, ge=0)
    """Last steps of `progressive` that are in float32 again; needs `total_steps`."""
    init_scale: float = 2.0**16
    """First loss scale, where a layer may compute in float16; later ones follow the gradients."""
    min_scale: float = 1.0
    """The loss scale is never smaller."""
    max_scale: float = 2.0**24
    """The loss scale is never larger."""
    memory: Literal["standard", "lean", "lean+"] = "standard"
    """`lean` keeps activations for the backward in 8 bit and recomputes normalisations and
    activation functions; `lean+` goes to 4 bit and keeps the optimizer's state in bfloat16."""
    memory_budget: str | int | float | None = None
    """For `lean` and `lean+`: how much a forward may save, as "2GiB", in bytes, or as a ratio
    below 1 of what float32 would save; bits are then chosen layer by layer."""
    seed: int = 0
    """Of the stochastic rounding."""
    trace: Path | None = None
    """File to which every look is written, for `ds dmp trace`."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> DmpOptions:
        if self.memory_budget is not None:
            if self.memory == "standard":
                raise ValueError("memory_budget needs memory='lean' or 'lean+'")
            self.budget()
        if self.tail and self.schedule != "progressive":
            raise ValueError("tail needs schedule='progressive'")
        if not 0 < self.min_scale <= self.init_scale <= self.max_scale:
            raise ValueError("it needs 0 < min_scale <= init_scale <= max_scale")
        if self.dtypes != "auto" and not self.dtypes:
            raise ValueError("dtypes needs one at least; precision 'fp32' is for none")
        return self

    def budget(self) -> int | float | None:
        """The memory budget: bytes as an int, a ratio as a float."""
        value = self.memory_budget
        if isinstance(value, str):
            value = _number(value)
        if isinstance(value, float) and value.is_integer() and value > 1:
            value = int(value)
        if value is not None and (value <= 0 or (isinstance(value, float) and value > 1)):
            raise ValueError("memory_budget is a number of bytes, or a ratio between 0 and 1")
        return value


def _number(text: str) -> int | float:
    try:
        return (
            float(text)
            if "." in text and text.replace(".", "").isdigit()
            else int(pydantic.TypeAdapter(pydantic.ByteSize).validate_python(text))
        )
    except pydantic.ValidationError:
        raise ValueError(f"{text!r} is no size; write it as '2GiB', '500MB' or 0.5") from None
