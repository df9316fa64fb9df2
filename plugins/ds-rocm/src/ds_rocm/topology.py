"""AMD cards as the kernel's driver for computing, KFD, lists them in sysfs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ds_core.components import host_files
from ds_rocm import archs

_NODES = "sys/class/kfd/kfd/topology/nodes"
_DEVICE_MEMORY = ("1", "2")  # heap types of memory on the card, seen by the host or not


class Card(NamedTuple):
    """One card; what could not be read is empty or None."""

    arch: str
    uuid: str = ""
    """As `GPU-4b2c1a9f8d3e6f7a`, which ROCR_VISIBLE_DEVICES takes."""
    memory: int | None = None
    render: str = ""
    """The name of its file in `/dev/dri`, as `renderD128`."""


def cards(root: str = "/") -> tuple[Card, ...]:
    """The nodes of the topology that are cards to compute on, in the order of their numbers."""
    override = archs.override(os.environ.get("HSA_OVERRIDE_GFX_VERSION"))
    found = []
    for node in sorted(host_files.names(root, _NODES), key=_number):
        place = f"{_NODES}/{node}"
        record = _record(host_files.read(root, f"{place}/properties", limit=8192))
        if not host_files.number(record.get("simd_count", "")):
            continue  # a processor
        arch = archs.from_version(host_files.number(record.get("gfx_target_version", "")))
        if arch in archs.INTEGRATED and not override:
            continue
        unique = host_files.number(record.get("unique_id", ""))
        minor = host_files.number(record.get("drm_render_minor", ""))
        found.append(
            Card(
                arch=override or arch,
                uuid=f"GPU-{unique:016x}" if unique else "",
                memory=_memory(root, place),
                render=f"renderD{minor}" if minor else "",
            )
        )
    return tuple(found)


def visible(found: tuple[Card, ...]) -> tuple[Card, ...]:
    """The cards that torch shows, in its order.

    ROCR_VISIBLE_DEVICES, by number or uuid, comes first; HIP_VISIBLE_DEVICES, or
    CUDA_VISIBLE_DEVICES where that is not set, counts within what is left. A list ends at its
    first entry that is no card.
    """
    for name in _settings():
        found = _select(found, os.environ[name])
    return found


def hidden_by(found: tuple[Card, ...]) -> str:
    """The variable that leaves none of the cards; empty where some are left."""
    for name in _settings():
        found = _select(found, os.environ[name])
        if not found:
            return name
    return ""


def _settings() -> list[str]:
    """The variables that are set and heeded, in the order in which they are."""
    hip = "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in os.environ else "CUDA_VISIBLE_DEVICES"
    return [name for name in ("ROCR_VISIBLE_DEVICES", hip) if name in os.environ]


def _select(found: tuple[Card, ...], setting: str) -> tuple[Card, ...]:
    shown: list[Card] = []
    for entry in (part.strip() for part in setting.split(",")):
        chosen = [card for card in found if card.uuid and card.uuid.lower() == entry.lower()]
        if re.fullmatch(r"\d{1,3}", entry) and int(entry) < len(found):
            chosen = [found[int(entry)]]
        if not chosen:
            break
        shown += chosen
    return tuple(shown)


def _memory(root: str, place: str) -> int | None:
    sizes = []
    for bank in host_files.names(root, f"{place}/mem_banks"):
        text = host_files.read(root, f"{place}/mem_banks/{bank}/properties", limit=4096)
        record = _record(text)
        if record.get("heap_type") in _DEVICE_MEMORY:
            sizes.append(host_files.number(record.get("size_in_bytes", "")) or 0)
    return sum(sizes) or None


def _record(text: str) -> dict[str, str]:
    return dict(_pairs(text))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if value:
            yield name, value.strip()


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if re.fullmatch(r"\d{1,6}", text) else (10**6, text)
