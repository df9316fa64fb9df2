"""Something that costs time or memory, and what would mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What was found, with the figures that say so."""

    id: str
    """Of the kind of finding; at most one of each kind is told of a recording."""
    title: str
    evidence: str
    """A sentence with figures."""
    remedy: str
    """A sentence, with how the estimate was made."""
    seconds: float | None = None
    """Of a step, that the operators meant take."""
    estimate: float | None = None
    """Share of a step that would be saved; None where it cannot be told."""
    pass_: str | None = None
    """Component or function that does it."""
    measured: float | None = None
    """Share of a step that was saved, where a later recording has it no more."""
    module: str = ""
    op: str = ""
    source: str = ""
    node: int | None = None

    def told(self) -> dict[str, Any]:
        """As the page and the terminal show it."""
        said = asdict(self)
        said["pass"] = said.pop("pass_")
        return said
