"""Precision policies decide which dtype each layer computes in."""

from __future__ import annotations

from typing import ClassVar

from ds_core.components.component import Component


class PrecisionPolicy(Component):
    """Chooses dtypes for forward and backward; parameters stay in the dtype the user gave them.

    The usual means is an autocast region around the forward (`ds_around_forward`); one that lets
    gradients be float16 offers a `LossScale` as well (`ds_loss_scale`).
    """

    kind: ClassVar[str] = "precision"
