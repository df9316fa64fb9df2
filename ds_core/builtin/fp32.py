"""Full precision: every layer computes in the dtype of its parameters."""

from __future__ import annotations

from ds_core.components import PrecisionPolicy


class Fp32(PrecisionPolicy):
    """No reduced precision; implements no hook, so it costs nothing."""

    name = "fp32"
    rank = 0
