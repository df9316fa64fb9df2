"""One event of a trace: only what is used, so that the rest is passed over when it is read."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

_NOTHING = msgspec.Raw()


class Arguments(msgspec.Struct, gc=False):
    """Arguments, by the names that torch.profiler gives them; -1 where there is none."""

    dims: msgspec.Raw = msgspec.field(name="Input Dims", default=_NOTHING)
    types: msgspec.Raw = msgspec.field(name="Input type", default=_NOTHING)
    sequence: Any = msgspec.field(name="Sequence number", default=-1)
    external: Any = msgspec.field(name="External id", default=-1)
    correlation: Any = -1
    size: Any = msgspec.field(name="Bytes", default=None)
    total: Any = msgspec.field(name="Total Allocated", default=None)
    address: Any = msgspec.field(name="Addr", default=None)
    device_type: Any = msgspec.field(name="Device Type", default=None)
    device: Any = msgspec.field(name="Device Id", default=None)
    name: Any = None
    bytes: Any = None


class Event(msgspec.Struct, gc=False):
    """An event, whose values may be of any type."""

    ph: Any = ""
    name: Any = ""
    cat: Any = ""
    ts: Any = None
    dur: Any = 0
    pid: Any = ""
    tid: Any = ""
    id: Any = None
    args: Arguments | None = None
    given: dict[str, Any] | None = None


_NAMES = {field.encode_name: field.name for field in msgspec.structs.fields(Arguments)}
NO_ARGUMENTS = Arguments()
decode = msgspec.json.Decoder(list[Event]).decode
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
        event.args = Arguments()
        for key in _NAMES.keys() & arguments.keys():
            value = arguments[key]
            if key.startswith("Input"):
                value = msgspec.Raw(orjson.dumps(value))
            setattr(event.args, _NAMES[key], value)
    return event
