"""One event of a trace: only what is used, so that the rest is passed over when it is read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import orjson

T = TypeVar("T", bound=msgspec.Struct)

_NOTHING = msgspec.Raw()


class Event(msgspec.Struct, gc=False):
    """An event, whose values may be of any type. `given` are its arguments as another reader has
    them, `args` their text."""

    ph: Any = ""
    name: Any = ""
    cat: Any = ""
    ts: Any = None
    dur: Any = 0
    pid: Any = ""
    tid: Any = ""
    id: Any = None
    args: msgspec.Raw = _NOTHING
    given: dict[str, Any] | None = None


class Arguments(msgspec.Struct, gc=False):
    """Arguments, by the names that torch.profiler gives them; -1 where there is none."""

    dims: msgspec.Raw = msgspec.field(name="Input Dims", default=_NOTHING)
    types: msgspec.Raw = msgspec.field(name="Input type", default=_NOTHING)
    sequence: Any = msgspec.field(name="Sequence number", default=-1)
    external: Any = msgspec.field(name="External id", default=-1)
    correlation: Any = -1


class Instant(msgspec.Struct, gc=False):
    """Arguments of what the allocator says."""

    size: Any = msgspec.field(name="Bytes", default=None)
    total: Any = msgspec.field(name="Total Allocated", default=None)
    address: Any = msgspec.field(name="Addr", default=None)
    device_type: Any = msgspec.field(name="Device Type", default=None)
    device: Any = msgspec.field(name="Device Id", default=None)


class Note(msgspec.Struct, gc=False):
    """Arguments of names and counters."""

    name: Any = None
    bytes: Any = None


_USED = {
    field.encode_name
    for kind in (Arguments, Instant, Note)
    for field in msgspec.structs.fields(kind)
}
_NOT_SUCH = (msgspec.MsgspecError, ValueError, RecursionError)

events_of = msgspec.json.Decoder(list[Event]).decode
"""Events from JSON; raises `msgspec.MsgspecError` if it is not a list of such objects."""


def event_of(told: dict[str, Any]) -> Event:
    """An event from what another reader made of it, with all of its arguments as `given`."""
    event = Event(given=None)
    for name in ("ph", "name", "cat", "ts", "dur", "pid", "tid", "id"):
        if name in told:
            setattr(event, name, told[name])
    arguments = told.get("args")
    if isinstance(arguments, dict):
        event.given = arguments
        used = {key: arguments[key] for key in _USED & arguments.keys()}
        with suppress(TypeError):  # what is nested too deeply to be written
            event.args = msgspec.Raw(orjson.dumps(used))
    return event


def arguments_of(events: list[Event], kind: type[T]) -> list[T]:
    """The arguments of each event; where there are none, none are known."""
    texts = [event.args or b"{}" for event in events]
    try:  # one call takes half the time of many
        return msgspec.json.decode(b"[%b]" % b",".join(texts), type=list[kind])  # type: ignore[valid-type]
    except _NOT_SUCH:
        found = []
        for text in texts:
            try:
                found.append(msgspec.json.decode(text, type=kind))
            except _NOT_SUCH:
                found.append(kind())
        return found
