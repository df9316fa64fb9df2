"""Pruners decide which weights or channels remain."""

from __future__ import annotations

from typing import ClassVar

from ds_core.components.component import Component


class Pruner(Component):
    """Removes weights or channels while the model trains.

    A pruner must change nothing at attach: what it zeroes or removes, it does in or after a step.
    One that replaces parameters calls `session.model_changed()` afterwards, so that everyone who
    holds them takes them anew. Schedules span `session.total_steps` where that is known.
    """

    kind: ClassVar[str] = "pruner"
