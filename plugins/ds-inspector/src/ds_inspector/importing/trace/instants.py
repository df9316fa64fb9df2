"""`[memory]` instants of a trace as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds_inspector.importing.trace.event import Event

Floats = NDArray[np.float64]

_NUMBERS = ("size", "total", "address")


class Instants:
    """Collects instants.

    Attributes:
        columns: After `finish`: `ts` in microseconds, `size` of what was asked for or given back,
            `total` that is allocated and `address`, as floats.
        device: Their devices.
        place: Process and thread of each.
    """

    def __init__(self) -> None:
        self.device: list[str] = []
        self.place: list[tuple[Any, Any]] = []
        self.columns: dict[str, Floats] = {}
        self._parts: dict[str, list[Floats]] = {name: [] for name in ("ts", *_NUMBERS)}
        self._devices: dict[tuple[Any, Any], str] = {}

    def take(self, events: list[Event]) -> None:
        """Add events; those that are not as torch writes them are left out."""
        try:
            self._add(events)
        except (TypeError, ValueError, OverflowError, AttributeError):
            self._add([event for event in events if _is_whole(event)])

    def _add(self, events: list[Event]) -> None:
        given: list[Any] = [event.args for event in events]
        place = [(event.pid, event.tid) for event in events]
        keys = [(each.device_type, each.device) for each in given]
        for kind, number in set(keys) - self._devices.keys():
            self._devices[kind, number] = f"cuda:{number}" if kind == 1 else "cpu"
        hash(tuple(place))
        found = {name: floats([getattr(each, name) for each in given]) for name in _NUMBERS}
        found["ts"] = floats([event.ts for event in events])
        for name, values in found.items():
            self._parts[name].append(values)
        self.device += [self._devices[key] for key in keys]
        self.place += place

    def finish(self) -> None:
        """Join what was taken."""
        self.columns = {
            name: np.concatenate([*parts, np.zeros(0)]) for name, parts in self._parts.items()
        }
        self._parts = {}


def floats(values: list[Any]) -> Floats:
    """A column of numbers.

    Raises:
        TypeError, ValueError, OverflowError: One of them is none.
    """
    found = np.array(values, np.float64)
    if found.ndim != 1 or np.isnan(found).any():
        raise ValueError("not numbers")
    return found


def _is_whole(event: Event) -> bool:
    given = event.args
    if given is None:
        return False
    numbers = [event.ts, *(getattr(given, name) for name in _NUMBERS)]
    names = [event.pid, event.tid, given.device_type, given.device]
    return all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers) and all(
        isinstance(name, (str, int)) for name in names
    )
