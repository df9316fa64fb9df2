"""How small a model shall become."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from ds_core.components import Options
from ds_core.components.component import config_error

Share = Annotated[float, pydantic.Field(gt=0, le=1)]
Removed = Annotated[float, pydantic.Field(ge=0, lt=1)]

ROUNDING = 1e-9
"""Shares are decimal fractions, of which binary ones miss whole numbers by as little."""

Multiple = int | Literal["auto", "measured"]
"""Of what widths of shrunken layers are a multiple. `auto`: of 8, and of less in narrow layers;
`measured`: of what the device makes use of."""


def multiple(value: Any) -> Multiple:
    """What widths are to be a multiple of.

    Raises:
        ValueError: They cannot be, as a clause.
    """
    if value == "auto" or value == "measured":
        return value  # type: ignore[no-any-return]
    if not str(value).isdecimal() or not int(value):
        raise ValueError("it is neither a number from 1 up nor 'auto' nor 'measured'")
    return int(value)


class Target(Options):
    """What must be reached; where several are given, all of them.

    Each is a bound, not a figure to meet exactly: layers shrink in whole atoms.
    """

    flops: Share | None = None
    """Share of the multiply-adds that is kept at most."""
    params: Share | None = None
    """Share of the parameters that is kept at most."""
    latency: Share | None = None
    """Share of the measured time that is kept at most."""
    ratio: Removed | None = None
    """Share of its atoms that every group loses at least, as far as `min_kept` and rounding let
    it."""
    layers: dict[str, Removed] = {}
    """Share of the atoms that single layers lose at least, whatever the others do; with 0 a layer
    stays whole. Names are of layers or of modules that hold them; the longest that fits counts."""
    min_kept: Share = 0.1
    """Share of each group's atoms that stays at least, except where `layers` says otherwise. One
    atom always stays."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Target:
        if not self.bounds() and self.ratio is None and not self.layers:
            raise ValueError("it needs at least one of flops, params, latency, ratio and layers")
        if self.ratio is not None and self.ratio > 1 - self.min_kept + ROUNDING:
            raise ValueError(
                f"ratio={self.ratio:g} leaves less of each group than min_kept={self.min_kept:g}"
            )
        return self

    @classmethod
    def of(cls, **values: Any) -> Target:
        """A target from its fields.

        Raises:
            ConfigError: One is unknown or has a value that it cannot have, in one sentence.
        """
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise config_error(error, cls, "the target") from None

    def bounds(self) -> dict[str, float]:
        """The shares of the whole model that are kept at most: of `flops`, `params`, `latency`."""
        every = {"flops": self.flops, "params": self.params, "latency": self.latency}
        return {kind: share for kind, share in every.items() if share is not None}
