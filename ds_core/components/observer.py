"""Observers watch training and change nothing."""

from __future__ import annotations

from typing import ClassVar

from ds_core.components.component import Component


class Observer(Component):
    """Watches a session: a profiler, a tracker, an alarm.

    Implements any hooks; neither results nor gradients may differ because it is there.
    """

    kind: ClassVar[str] = "observer"
