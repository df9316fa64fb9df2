"""Events of a trace as columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ds_inspector.importing import limits
from ds_inspector.importing.trace.event import NO_ARGUMENTS, Arguments, Event, event_of
from ds_inspector.importing.trace.instants import Floats, Instants, floats
from ds_inspector.recording.table import Texts

Ints = NDArray[np.int64]

LATEST = 4e15
"""Microseconds: a hundred years; beyond, nanoseconds would not fit."""

_SKIPPED = {"Trace", "gpu_user_annotation", "step"}  # they repeat what other events say
_NUMBERS = ("sequence", "external", "correlation")
_NO_INPUT = (b"", b"")
_CODES = ("name", "category", "lane", "input")


class Codes(dict[Any, int]):
    """Numbers things in the order in which they come."""

    def __missing__(self, key: Any) -> int:
        number = self[key] = len(self)
        return number

    def of(self, keys: list[Any]) -> list[int]:
        """The numbers of many."""
        return list(map(self.__getitem__, keys))


class Rows:
    """Collects what takes time (`X`, and pairs of `B` and `E`), and what is told beside it.

    Attributes:
        names: Of threads, by process and thread.
        memory: `[memory]` instants.
        counters: As they are.
        flows: Ends of arrows, likewise.
        lost: Events that could not be understood.
        given: All arguments of each event, if they are kept.

    After `finish`:
        start, duration: Microseconds.
        numbers: `sequence`, `external` and `correlation`, by name.
        codes, known: Numbers into what is known, for `name`, `category`, `lane` and `input`.
        timed: Whether an event's times make sense.
        kept: Whether it is one of the recording's.
    """

    def __init__(self) -> None:
        self.count = 0
        self.lost = 0
        self.names: dict[tuple[Any, Any], str] = {}
        self.memory = Instants()
        self.counters: list[Event] = []
        self.flows: list[Event] = []
        self.given: list[dict[str, Any]] | None = None
        self._seen = 0
        self._start: list[Floats] = []
        self._duration: list[Floats] = []
        self._numbers: dict[str, list[Ints]] = {name: [] for name in _NUMBERS}
        self._codes: dict[str, list[int]] = {name: [] for name in _CODES}
        self._known: dict[str, Codes] = {name: Codes() for name in _CODES}
        self._begun: dict[tuple[Any, Any], list[Event]] = {}

    def keep_arguments(self) -> None:
        """Keep the arguments of each event, as `given`."""
        self.given = []

    def take(self, piece: list[Any]) -> None:
        """Add the events of one piece, as `Event` or as JSON's objects.

        Raises:
            RefusedError: There are more than are read.
        """
        events: list[Event] = piece
        if not piece or type(piece[0]) is not Event:
            events = [event_of(event) for event in piece if isinstance(event, dict)]
            self.lost += len(piece) - len(events)
        complete = [event for event in events if event.ph == "X"]
        complete += self._beside([event for event in events if event.ph != "X"])
        try:  # what is as torch writes it is taken without looking at each value
            self._add(complete)
        except (TypeError, ValueError, OverflowError):
            self._add(self._whole(complete))
        self._seen += len(piece)
        if self._seen > limits.EVENTS:
            raise limits.refuse("The trace has", limits.EVENTS, "events")

    def _add(self, events: list[Event]) -> None:
        given = [event.args or NO_ARGUMENTS for event in events]
        start = floats([event.ts for event in events])
        duration = floats([event.dur for event in events])
        count = len(events)
        numbers = {
            "sequence": np.fromiter([each.sequence for each in given], np.int64, count),
            "external": np.fromiter([each.external for each in given], np.int64, count),
            "correlation": np.fromiter([each.correlation for each in given], np.int64, count),
        }
        known = self._known
        codes = {
            "name": known["name"].of([event.name for event in events]),
            "category": known["category"].of([event.cat for event in events]),
            "lane": known["lane"].of([(event.pid, event.tid) for event in events]),
            "input": known["input"].of(
                [
                    (bytes(each.dims), bytes(each.types)) if each.dims else _NO_INPUT
                    for each in given
                ]
            ),
        }
        for name, found in codes.items():
            self._codes[name] += found
        for name, values in numbers.items():
            self._numbers[name].append(values)
        self._start.append(start)
        self._duration.append(duration)
        if self.given is not None:
            self.given += [event.given or {} for event in events]
        self.count += count

    def _whole(self, events: Iterable[Event]) -> list[Event]:
        """The same with whatever is missing or of another type replaced, or left out."""
        found = []
        for event in events:
            start, duration = _real(event.ts), _real(event.dur)
            if start is None or duration is None:
                self.lost += 1
                continue
            old = event.args or NO_ARGUMENTS
            arguments = Arguments(dims=old.dims, types=old.types)
            for name in _NUMBERS:
                number = _real(getattr(old, name))
                if number is not None and abs(number) < 2**62:
                    setattr(arguments, name, int(number))
            process, thread = place_of(event)
            whole = Event("X", _key(event.name), _key(event.cat), start, duration, process, thread)
            whole.args, whole.given = arguments, event.given
            found.append(whole)
        return found

    def _beside(self, events: list[Event]) -> list[Event]:
        """Keep what takes no time; return the events that pairs of begin and end are."""
        pairs, instants = [], []
        for event in events:
            phase = event.ph
            if phase in ("s", "f"):
                if event.cat != "fwdbwd":  # numbers of the sequence say the same
                    self.flows.append(event)
            elif event.name == "[memory]":
                instants.append(event)
            elif phase == "M" and event.name == "thread_name" and event.args:
                if isinstance(event.args.name, str):
                    self.names[place_of(event)] = limits.cut(event.args.name, 100)
            elif phase == "C":
                self.counters.append(event)
            elif phase == "B":
                self._begun.setdefault(place_of(event), []).append(event)
            elif phase == "E" and (stack := self._begun.get(place_of(event))):
                begun = stack.pop()
                start, end = _real(begun.ts), _real(event.ts)
                if start is not None and end is not None:
                    pairs.append(msgspec.structs.replace(begun, ph="X", dur=end - start))
        self.memory.take(instants)
        return pairs

    def finish(self) -> None:
        """Join what was collected; afterwards the columns can be asked for."""
        self.memory.finish()
        self.start = np.concatenate([*self._start, np.zeros(0)])
        self.duration = np.concatenate([*self._duration, np.zeros(0)])
        self.numbers = {
            name: np.concatenate([*parts, np.zeros(0, np.int64)])
            for name, parts in self._numbers.items()
        }
        self.codes = {name: np.array(codes, np.int64) for name, codes in self._codes.items()}
        self.known = {name: list(known) for name, known in self._known.items()}
        names = [limits.cut(str(name)) for name in self.known["name"]]
        self.names_of = Texts(self.codes["name"], names)
        self.timed = (np.abs(self.start) <= LATEST) & (self.duration <= LATEST)
        self.timed &= self.duration >= 0
        self.lost += int((~self.timed).sum())
        skipped = [str(category) in _SKIPPED for category in self.known["category"]]
        self.kept = self.timed & ~np.array([*skipped, False])[self.codes["category"]]


def place_of(event: Event) -> tuple[Any, Any]:
    """Process and thread."""
    return _key(event.pid), _key(event.tid)


def _key(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)


def _real(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
