"""What one look at a layer found, and how dangerous that makes each dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist

LARGEST = {"fp16": 65504.0, "bf16": 3.3895313892515355e38}
"""The largest finite number of each 16-bit dtype."""

ROUNDING = {"bf16": 2.0**-9 / 3**0.5, "fp16": 2.0**-12 / 3**0.5}
"""Root mean square of the relative error that rounding to a dtype makes."""

SMALLEST_LOG2 = -25.0
"""Magnitudes below two to this are rounded to zero in float16."""

OUTLIER = 10.0
"""Times its neighbours' median impact, from which a layer's errors stand out."""

NORMAL = 2.0**11
"""From there to float16's smallest number of full precision."""


@dataclass(frozen=True)
class Spread:
    """Magnitudes of a tensor's non-zero elements: mean and deviation of their log2, and a peak."""

    count: float = 0.0
    zeros: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    peak: float = 0.0

    def flushed(self, factor: float = 1.0) -> float:
        """The share that float16 rounds to zero once all is multiplied by `factor`.

        Gradients' magnitudes are close to log-normal (Chmiel et al., Neural gradients are
        near-lognormal, arXiv:2006.08173), which also tells of those that are zero already.
        """
        if not self.count:
            return 0.0
        distance = SMALLEST_LOG2 - math.log2(factor) - self.mean
        if self.deviation <= 0:
            return float(distance > 0)
        return NormalDist().cdf(distance / self.deviation)

    def scale_for(self, limit: float) -> float:
        """The smallest factor at which no more than `limit` are flushed; 0 where any will do."""
        if not self.count:
            return 0.0
        quantile = self.mean + NormalDist().inv_cdf(limit) * self.deviation
        return math.ldexp(1.0, math.ceil(min(max(SMALLEST_LOG2 - quantile, -120.0), 120.0)))


@dataclass(frozen=True)
class Limits:
    """Above which a layer counts as unstable; see `DmpOptions`."""

    error: float
    impact: float
    flush: float
    logit: float


@dataclass(frozen=True)
class Danger:
    """How far a dtype is beyond a limit: 1 is at the limit, and why."""

    value: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Evidence:
    """One look at one layer, over all ranks. Gradients are as they travel, times the scale."""

    calls: float = 0.0
    outgoing: Spread = field(default_factory=Spread)
    """Gradients of the layer's outputs."""
    incoming: Spread = field(default_factory=Spread)
    """Gradients of the layer's inputs, computed in float32 on a sample."""
    output_peak: float = 0.0
    forward: Mapping[str, float] = field(default_factory=dict)
    """Relative error of the layer's outputs, by dtype."""
    backward: Mapping[str, float] = field(default_factory=dict)
    """Relative error of the gradient of its inputs, by dtype."""
    impact: Mapping[str, float] = field(default_factory=dict)
    """What its outputs' errors do to the loss, in parts of what the model's outputs do to it."""
    usual_impact: Mapping[str, float] = field(default_factory=dict)
    """The median impact of its neighbours in the same look."""
    logits: float = 0.0
    """Error of attention's logits, in units of the dtype's rounding."""
    broken: str = ""
    """Where the layer made inf or nan of finite numbers: `forward`, `backward`."""
    spoiled_input: bool = False
    """What came into the layer was not finite."""
    spoiled_output: bool = False
    """The gradient that came back to it was not."""
    scale: float = 1.0
    """The loss scale that gradients carried."""
    mean_square: float = 0.0
    """Of the output's gradient, without the scale."""

    def flushed(self, scale: float | None = None) -> float:
        """The share of gradients that float16 rounds to zero, at another loss scale if given."""
        factor = 1.0 if scale is None else scale / self.scale
        return max(spread.flushed(factor) for spread in (self.outgoing, self.incoming))

    def error(self, dtype: str) -> float:
        """Relative error of the layer's products, the larger of forward and backward."""
        return max(self.forward.get(dtype, 0.0), self.backward.get(dtype, 0.0))

    @property
    def vanished(self) -> bool:
        """Whether gradients came and all were zero."""
        return bool(self.outgoing.zeros) and not self.outgoing.count

    def needed_scale(self, limit: float) -> float:
        """The smallest loss scale at which float16 flushes no more than `limit`."""
        spreads = (self.outgoing, self.incoming)
        return self.scale * max(spread.scale_for(limit) for spread in spreads)

    def tolerated_scale(self) -> float:
        """The largest loss scale at which float16 is two powers of two from overflow."""
        peak = max(self.outgoing.peak, self.incoming.peak)
        if not math.isfinite(peak):
            return self.scale / 4
        return self.scale * LARGEST["fp16"] / 4 / peak if peak else math.inf

    def danger(self, dtype: str, now: str, scale: float, limits: Limits) -> Danger:
        """How dangerous it would be to compute in `dtype`.

        Args:
            dtype: The one in question.
            now: The dtype that the layer computed in when it was looked at.
            scale: The loss scale that gradients will have.
            limits: Where danger begins.
        """
        if dtype == "fp32":
            return Danger()
        found = [Danger()]
        # In float16 a backward that overflows asks for another loss scale first.
        if dtype == now and (self.broken == "forward" or (self.broken and now != "fp16")):
            found.append(Danger(math.inf, f"inf or nan arose in {self.broken}"))
        # In float16, what too small a scale has made subnormal is mended by a larger one.
        outgrown = dtype == "fp16" and scale > self.scale
        error = self.forward.get(dtype, 0.0) if outgrown else self.error(dtype)
        found.append(Danger(error / limits.error, f"products off by {error:.2g}"))
        impact = self.impact.get(dtype, 0.0)
        usual = self.usual_impact.get(dtype, 0.0)
        if usual > 0:
            # In a net that has learnt nothing yet, all rounding may matter as much as the signal,
            # and no layer is to blame: only what stands out counts.
            standing_out = min(impact / limits.impact, impact / usual / OUTLIER)
            found.append(Danger(standing_out, f"its errors move the loss by {impact:.2g}"))
        logit = self.logits * ROUNDING[dtype]
        found.append(Danger(logit / limits.logit, f"attention logits off by {logit:.2g}"))
        if dtype == "fp16":
            peak = self.output_peak
            headroom = 2 * peak / LARGEST["fp16"]
            if math.isfinite(peak):
                # At half of the largest number, the next batch may overflow: no second look.
                found.append(
                    Danger(4 * headroom if headroom > 1 else headroom, f"outputs up to {peak:.3g}")
                )
            flushed = self.flushed(scale)
            found.append(Danger(flushed / limits.flush, f"{flushed:.2g} of the gradients vanish"))
            if now == "fp16" and self.vanished and not outgrown:
                found.append(Danger(1.5, "all gradients vanished"))
        return max(found, key=lambda danger: danger.value)
