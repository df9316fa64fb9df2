"""Events of one piece of a trace as columns: the part of the work that other processes can do."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from ds_inspector.importing.limits import cut
from ds_inspector.importing.trace.columns import Columns
from ds_inspector.importing.trace.event import (
    Arguments,
    Event,
    Instant,
    Note,
    arguments_of,
    event_of,
    events_of,
)

NO_INPUT = (b"", b"")
"""Shapes and types of no inputs, as text."""

_NUMBERS = ("sequence", "external", "correlation")
_UNUSED = ("python_function",)  # categories of whose arguments none is used


Place = tuple[Any, Any]
"""A process and a thread."""


@dataclass(slots=True)
class Timed:
    """What takes time (`X`).

    Attributes:
        events: `start` and `duration` in microseconds; `what` is the name, the category, process
            and thread.
        rows: Of those with arguments.
        arguments: Their `sequence`, `external`, `correlation` and `input`.
        given: All arguments of each, if they are kept.
    """

    events: Columns
    rows: array[int]
    arguments: Columns
    given: list[dict[str, Any]]


@dataclass(slots=True)
class Batch:
    """What one piece holds.

    Attributes:
        seen: How many events there were.
        lost: Those that could not be understood.
        timed: Those that take time.
        instants: `[memory]` instants: `ts` in microseconds, the `size` of what was asked for or
            given back, the `total` that is allocated, and `address`; `where` is the type and
            number of the device, process and thread.
        names: Of threads.
        counters: Microseconds, bytes and name.
        halves: Begins (`B`) and ends (`E`), which may be far apart.
        flows: Ends of arrows: `s` or `f`, what both ends have, the place, and microseconds.
    """

    seen: int
    lost: int
    timed: Timed
    instants: Columns
    names: dict[Place, str] = field(default_factory=dict)
    counters: list[tuple[Any, Any, str]] = field(default_factory=list)
    halves: list[Event] = field(default_factory=list)
    flows: list[tuple[str, tuple[str, str], Place, Any]] = field(default_factory=list)


def decode(text: bytes) -> Batch:
    """A batch of JSON.

    Raises:
        orjson.JSONDecodeError: It is none.
        RecursionError: It is nested too deeply.
    """
    try:
        events: list[Any] = events_of(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        events = orjson.loads(text)
    return batch_of(events)


def batch_of(piece: list[Any], keep: bool = False) -> Batch:
    """A batch of events, as `Event` or as JSON's objects.

    Args:
        piece: The events.
        keep: Keep all arguments of what takes time; only JSON's objects have them.
    """
    events: list[Event] = piece
    if not piece or type(piece[0]) is not Event:
        events = [event_of(event) for event in piece if isinstance(event, dict)]
    complete, instants, others = [], [], []
    for event in events:
        if event.ph == "X":
            complete.append(event)
        elif event.name == "[memory]":
            instants.append(event)
        else:
            others.append(event)
    timed = timed_of(complete, keep)
    lost = len(piece) - len(events) + len(complete) - timed.events.rows
    batch = Batch(len(piece), lost, timed, _instants_of(instants))
    _put(others, batch)
    return batch


def timed_of(events: list[Event], keep: bool) -> Timed:
    """What takes time.

    Of events that are not as torch writes them, what is missing or of another type is replaced;
    those without times are left out.
    """
    try:
        columns = _columns(events)
    except (TypeError, OverflowError):
        events = [found for event in events if (found := _whole(event)) is not None]
        columns = _columns(events)
    rows = [row for row, event in enumerate(events) if event.cat not in _UNUSED]
    given = arguments_of([events[row] for row in rows], Arguments)
    kept = [event.given or {} for event in events] if keep else []
    return Timed(columns, array("q", rows), _arguments(given), kept)


def place_of(event: Event) -> Place:
    """Process and thread."""
    return _key(event.pid), _key(event.tid)


def real(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _columns(events: list[Event]) -> Columns:
    columns = Columns()
    columns.number("start", "d", [event.ts for event in events])
    columns.number("duration", "d", [event.dur for event in events])
    what = [(event.name, event.cat, event.pid, event.tid) for event in events]
    columns.code("what", what)
    return columns


def _arguments(given: list[Arguments]) -> Columns:
    columns = Columns()
    try:
        columns.number("sequence", "q", [each.sequence for each in given])
        columns.number("external", "q", [each.external for each in given])
        columns.number("correlation", "q", [each.correlation for each in given])
    except (TypeError, OverflowError):
        for name in _NUMBERS:
            columns.number(name, "q", [_integer(getattr(each, name)) for each in given])
    inputs = [(bytes(each.dims), bytes(each.types)) if each.dims else NO_INPUT for each in given]
    columns.code("input", inputs)
    return columns


def _integer(value: Any) -> int:
    number = real(value)
    return int(number) if number is not None and abs(number) < 2**62 else -1


def _whole(event: Event) -> Event | None:
    start, duration = real(event.ts), real(event.dur)
    if start is None or duration is None:
        return None
    process, thread = place_of(event)
    name, category = _key(event.name), _key(event.cat)
    return msgspec.structs.replace(
        event, name=name, cat=category, ts=start, dur=duration, pid=process, tid=thread
    )


def _key(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else str(value)


def _instants_of(events: list[Event]) -> Columns:
    given = arguments_of(events, Instant)
    try:  # what is as torch writes it is taken without looking at each value
        return _instants(events, given)
    except (TypeError, OverflowError):
        both = zip(events, given, strict=True)
        whole = [(event, each) for event, each in both if _is_whole(event, each)]
        return _instants([event for event, _ in whole], [each for _, each in whole])


def _instants(events: list[Event], given: list[Instant]) -> Columns:
    columns = Columns()
    columns.number("ts", "d", [event.ts for event in events])
    columns.number("size", "d", [each.size for each in given])
    columns.number("total", "d", [each.total for each in given])
    columns.number("address", "d", [each.address for each in given])
    both = zip(events, given, strict=True)
    where = [(each.device_type, each.device, event.pid, event.tid) for event, each in both]
    columns.code("where", where)
    return columns


def _is_whole(event: Event, given: Instant) -> bool:
    numbers = [event.ts, given.size, given.total, given.address]
    names = [event.pid, event.tid, given.device_type, given.device]
    return all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers) and all(
        isinstance(name, (str, int)) for name in names
    )


def _put(events: list[Event], batch: Batch) -> None:
    """Put what takes no time where it belongs."""
    for event in events:
        phase = event.ph
        if phase in ("s", "f"):
            if event.cat != "fwdbwd":  # numbers of the sequence say the same
                both = (str(event.cat), str(event.id))
                batch.flows.append((phase, both, place_of(event), event.ts))
        elif phase == "M" and event.name == "thread_name":
            (note,) = arguments_of([event], Note)
            if isinstance(note.name, str):
                batch.names[place_of(event)] = cut(note.name, 100)
        elif phase == "C":
            (note,) = arguments_of([event], Note)
            batch.counters.append((event.ts, note.bytes, str(event.name)))
        elif phase in ("B", "E"):
            event.args = event.args.copy()  # of which the text need not be kept
            batch.halves.append(event)
