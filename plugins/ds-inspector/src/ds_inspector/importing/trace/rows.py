"""Events of a trace as columns."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ds_inspector.forest import Ints
from ds_inspector.importing import limits
from ds_inspector.importing.trace.batch import NO_INPUT, Batch, Place, place_of, real, timed_of
from ds_inspector.importing.trace.columns import Codes
from ds_inspector.importing.trace.event import Event
from ds_inspector.importing.trace.joined import Joined
from ds_inspector.recording.table import Texts

LATEST = 4e15
"""Microseconds: a hundred years; beyond, nanoseconds would not fit."""

_SKIPPED = {"Trace", "gpu_user_annotation", "step"}  # they repeat what other events say


class Rows:
    """Collects what takes time (`X`, and pairs of `B` and `E`), and what is told beside it.

    Args:
        keep: Keep all arguments of each event.

    Attributes:
        names: Of threads.
        instants: `[memory]` instants.
        counters: Microseconds, bytes and name.
        flows: Ends of arrows: `s` or `f`, what both ends have, the place, and microseconds.
        lost: Events that could not be understood.
        given: All arguments of each event, if they are kept.

    After `finish`:
        start, duration: Microseconds.
        numbers: `sequence`, `external` and `correlation`, by name.
        codes, known: Numbers into what is known, for `name`, `category`, `lane` and `input`.
        timed: Whether an event's times make sense.
        kept: Whether it is one of the recording's.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.lost = 0
        self.names: dict[Place, str] = {}
        self.instants = Joined()
        self.counters: list[tuple[Any, Any, str]] = []
        self.flows: list[tuple[str, tuple[str, str], Place, Any]] = []
        self.given: list[dict[str, Any]] = []
        self._events = Joined()
        self._arguments = Joined()
        self._places: list[Ints] = []
        self._seen = 0
        self._begun: dict[Place, list[Event]] = {}

    def take(self, batch: Batch) -> None:
        """Add the events of one piece.

        Raises:
            RefusedError: There are more than are read.
        """
        pairs = timed_of(self._pairs(batch.halves), self.keep)
        for timed in (batch.timed, pairs):
            self._places.append(np.asarray(timed.rows) + self._events.rows)
            self._events.add(timed.events)
            self._arguments.add(timed.arguments)
            self.given += timed.given
        self.instants.add(batch.instants)
        self.names.update(batch.names)
        self.counters += batch.counters
        self.flows += batch.flows
        self.lost += batch.lost
        self._seen += batch.seen
        if self._seen > limits.EVENTS:
            raise limits.refuse("The trace has", limits.EVENTS, "events")

    def _pairs(self, halves: list[Event]) -> list[Event]:
        """The events that begins and ends are together."""
        pairs = []
        for event in halves:
            if event.ph == "B":
                self._begun.setdefault(place_of(event), []).append(event)
            elif stack := self._begun.get(place_of(event)):
                begun = stack.pop()
                start, end = real(begun.ts), real(event.ts)
                if start is not None and end is not None:
                    pairs.append(msgspec.structs.replace(begun, ph="X", dur=end - start))
        return pairs

    def finish(self) -> None:
        """Join what was collected; afterwards the columns can be asked for."""
        for joined in (self.instants, self._events, self._arguments):
            joined.finish()
        self.numbers, self.codes, self.known = dict(self._events.numbers), {}, {}
        what, count = self._events.codes["what"], self._events.rows
        for name, part in (("name", 0), ("category", 1), ("lane", slice(2, 4))):
            known = Codes()
            codes = known.of(key[part] for key in self._events.known["what"])
            self.codes[name] = np.array([*codes, 0], np.int64)[what]
            self.known[name] = list(known)
        place = np.concatenate(self._places)
        for name, values in self._arguments.numbers.items():
            self.numbers[name] = np.full(count, -1, np.int64)
            self.numbers[name][place] = values
        self.known["input"] = [*self._arguments.known["input"], NO_INPUT]
        self.codes["input"] = np.full(count, len(self.known["input"]) - 1, np.int64)
        self.codes["input"][place] = self._arguments.codes["input"]
        self.start, self.duration = self.numbers["start"], self.numbers["duration"]
        names = [limits.cut(str(name)) for name in self.known["name"]]
        self.names_of = Texts(self.codes["name"], names)
        self.timed = (np.abs(self.start) <= LATEST) & (self.duration <= LATEST)
        self.timed &= self.duration >= 0
        self.lost += int((~self.timed).sum())
        skipped = [str(category) in _SKIPPED for category in self.known["category"]]
        self.kept = self.timed & ~np.array([*skipped, False])[self.codes["category"]]
