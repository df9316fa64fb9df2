"""What a session was made of, and how that differs from what is here.

Every session's state and report record each component's distribution, version and configuration.
A saved session is compared with this installation, and the ranks of one job with each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from ds_core.errors import DsError, SessionError
from ds_core.registry import Registry


class Identity(pydantic.BaseModel):
    """One component of a session, as it is recorded."""

    kind: str
    name: str
    distribution: str
    version: str
    config: dict[str, Any]


class Difference(pydantic.BaseModel):
    """One thing that is not here as it was there."""

    component: str
    what: str
    there: str
    here: str
    mend: str = ""


def session_states(checkpoint: Path) -> dict[str, list[Identity]]:
    """The sessions whose states a checkpoint holds, by where in it they stand.

    The file is what `torch.save` wrote, at any depth of dicts and lists; nothing in it is executed.

    Raises:
        DsError: The file cannot be read, or there is no session's state in it.
    """
    import torch

    try:
        content = torch.load(checkpoint, map_location="meta", weights_only=True)
    except OSError as error:
        raise DsError(f"Cannot read {checkpoint}: {error.strerror}.") from None
    except Exception as error:
        raise DsError(
            f"{checkpoint} is no checkpoint that loads safely: {str(error).splitlines()[0]}",
            mend="Save it with torch.save, of tensors, numbers, strings, lists and dicts alone.",
        ) from None
    found: dict[str, list[Identity]] = {}
    _search(content, "", found)
    if not found:
        raise DsError(
            f"There is no session's state in {checkpoint}.",
            mend='Save it beside the model\'s: {"session": session.state_dict(), ...}.',
        )
    return found


def _search(value: Any, where: str, found: dict[str, list[Identity]]) -> None:
    if isinstance(value, Mapping):
        parts = value.get("components")
        if value.get("format") == 1 and isinstance(parts, list):
            found[where or "the whole file"] = [
                Identity.model_validate({key: part[key] for key in Identity.model_fields})
                for part in parts
            ]
            return
        for key, item in value.items():
            _search(item, f"{where}.{key}" if where else str(key), found)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _search(item, f"{where}[{number}]", found)


def differences(saved: Sequence[Identity], registry: Registry) -> list[Difference]:
    """How the components that a session was made of differ from those installed here."""
    found = []
    for part in saved:
        name = f"{part.kind} {part.name!r}"
        records = [
            record
            for record in registry.records(part.kind)
            if record.name == part.name and record.distribution == part.distribution
        ]
        if not part.version:
            continue  # made by hand: nothing was installed for it
        if not records:
            found.append(
                Difference(
                    component=name,
                    what="distribution",
                    there=f"{part.distribution} {part.version}",
                    here="not installed",
                    mend=f'pip install "{part.distribution}=={part.version}"',
                )
            )
            continue
        record = records[0]
        if record.version != part.version:
            found.append(
                Difference(
                    component=name,
                    what="version",
                    there=part.version,
                    here=record.version,
                    mend=f'pip install "{part.distribution}=={part.version}"',
                )
            )
        if record.status != "ok":
            found.append(
                Difference(
                    component=name,
                    what="status",
                    there="ok",
                    here=record.status,
                    mend=record.reason,
                )
            )
            continue
        found += _config_differences(part, name, registry)
    return found


def _config_differences(part: Identity, name: str, registry: Registry) -> list[Difference]:
    options = registry.load(part.kind, f"{part.distribution}:{part.name}")[1].Config
    try:
        here = options.model_validate(part.config).model_dump(mode="json")
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        return [
            Difference(
                component=name,
                what=f"option {option}",
                there=json.dumps(part.config.get(option)),
                here=first["msg"],
            )
        ]
    return [
        Difference(component=name, what=f"option {key}", there="not there", here=json.dumps(value))
        for key, value in here.items()
        if key not in part.config
    ]


def compare_ranks(mine: Sequence[Mapping[str, Any]]) -> None:
    """Compare this rank's components with rank 0's, where there is a process group.

    Raises:
        SessionError: On all ranks alike, with the first rank that differs and in what.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    # A group of its own: the default one may need a device that nobody has chosen yet.
    group = dist.new_group(backend="gloo")
    everyone = _gather(json.dumps(list(mine)), group)
    dist.destroy_process_group(group)
    for rank, other in enumerate(everyone):
        difference = first_difference(other, everyone[0])
        if difference:
            raise SessionError(
                f"Rank {rank} is not like rank 0: {difference}.",
                mend="Give all ranks the same settings, and install the same versions for each.",
            )


def _gather(mine: str, group: Any) -> list[Any]:
    """Every rank's JSON, decoded; torch's own all_gather_object would need numpy."""
    import torch
    import torch.distributed as dist

    data = mine.encode()
    ranks = dist.get_world_size(group)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(ranks)]
    dist.all_gather(sizes, torch.tensor([len(data)]), group=group)
    longest = max(int(size) for size in sizes)
    padded = torch.tensor(list(data.ljust(longest)), dtype=torch.uint8)
    buffers = [torch.empty(longest, dtype=torch.uint8) for _ in range(ranks)]
    dist.all_gather(buffers, padded, group=group)
    return [json.loads(bytes(buffer.tolist())) for buffer in buffers]


def first_difference(mine: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """The first thing in which two ranks' components differ, as a clause; empty where none."""
    if [_named(part) for part in mine] != [_named(part) for part in others]:
        return (
            f"it has {', '.join(map(_named, mine)) or 'no components'}, and rank 0 has "
            f"{', '.join(map(_named, others)) or 'none'}"
        )
    for one, other in zip(mine, others, strict=True):
        for key in ("distribution", "version"):
            if one[key] != other[key]:
                return f"its {_named(one)} has {key} {one[key]!r}, and rank 0's {other[key]!r}"
        for option in sorted({*one["config"], *other["config"]}):
            here, there = one["config"].get(option), other["config"].get(option)
            if here != there:
                return f"its {_named(one)} has {option}={here!r}, and rank 0's {there!r}"
    return ""


def _named(part: Mapping[str, Any]) -> str:
    return f"{part['kind']} {part['name']!r}"
