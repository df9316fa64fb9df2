"""Transforms turn a model into a faster or smaller one."""

from __future__ import annotations

from typing import ClassVar

from ds_core.components.component import Component


class Transform(Component):
    """Model in, equivalent model out: implements `ds_transform`.

    It may return another object, and so is never applied to a model that is being trained.
    """

    kind: ClassVar[str] = "transform"
