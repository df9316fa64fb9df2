"""Everything known of one run or one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ds_inspector.recording.schema import TABLES
from ds_inspector.recording.table import Table


class Collector(msgspec.Struct):
    """One of the instruments that recorded, and what it cost."""

    name: str
    """As `time`, `lifetimes` or `graph`."""
    overhead: float | None = None
    """Time of a step with it over one without; None where it was not measured."""
    note: str = ""


class About(msgspec.Struct):
    """Where a recording comes from."""

    title: str
    origin: str
    """As `torch`, `onnx`, `onnxruntime`, `tensorflow`, `trace`."""
    created: str = ""
    """ISO 8601, UTC."""
    command: str = ""
    """What was run."""
    machine: dict[str, str] = {}
    """As `processor`, `device`, `torch`, `python`, `threads`."""
    collectors: list[Collector] = []
    problems: list[str] = []
    """What is missing, and why: a sentence each."""
    peaks: dict[str, dict[str, float]] = {}
    """Of a device, by dtype in FLOP/s and under `bandwidth` in bytes/s, as measured."""
    passes: list[str] = []
    """Components that were attached."""


@dataclass
class Recording:
    """The tables of `schema.TABLES`, and where they come from.

    Args:
        about: Where it comes from.
        tables: By name; those not given are empty.
        path: The file that it was read from.
    """

    about: About
    tables: Mapping[str, Table] = field(default_factory=dict)
    path: Path | None = None

    def __post_init__(self) -> None:
        self.tables = {name: self.tables.get(name) or Table(name) for name in TABLES}

    @property
    def events(self) -> Table:
        """Whatever took time."""
        return self.tables["events"]

    @property
    def nodes(self) -> Table:
        """Operators of the graph."""
        return self.tables["nodes"]

    @property
    def edges(self) -> Table:
        """Values between them."""
        return self.tables["edges"]

    @property
    def tensors(self) -> Table:
        """Lives of storages."""
        return self.tables["tensors"]

    @property
    def steps(self) -> Table:
        """Of training or of inference."""
        return self.tables["steps"]

    @property
    def usage(self) -> Table:
        """What an allocator said."""
        return self.tables["usage"]

    def save(self, path: str | Path) -> Path:
        """Write it to a file, which is replaced only once it is complete."""
        from ds_inspector.recording.store import save

        return save(self, path)
