"""What a session says about itself: readable as text, complete as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic


class ComponentReport(pydantic.BaseModel):
    """One component: what it is, where it came from, and what it has to say."""

    kind: str
    name: str
    distribution: str
    version: str
    config: dict[str, Any]
    """All options."""
    given: list[str]
    """Those of them that were not left at their defaults."""
    details: dict[str, Any]


class Report(pydantic.BaseModel):
    """A session so far."""

    model: str
    device: str
    steps: int
    """Optimizer steps that took place."""
    skipped: dict[str, int]
    """Steps that did not, by reason."""
    loss_scale: float | None
    parameters: int
    components: list[ComponentReport]

    def __str__(self) -> str:
        skipped = ", ".join(f"{count:,} by {reason}" for reason, count in self.skipped.items())
        lines = [
            f"{self.model} on {self.device}: {self.parameters:,} parameters, {self.steps:,} steps"
            + (f" (skipped: {skipped})" if skipped else "")
            + (f", loss scale {self.loss_scale:g}" if self.loss_scale is not None else "")
        ]
        for part in self.components:
            given = {name: part.config[name] for name in part.given if name in part.config}
            options = ", ".join(f"{name}={value!r}" for name, value in given.items())
            lines.append(
                f"  {part.kind:<9} {part.name} ({part.distribution} {part.version})"
                + (f"  {options}" if options else "")
            )
            lines += [f"    {line}" for line in _lines(part.details)]
        return "\n".join(lines)


def _lines(details: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in details.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{key}:"
            for item in value:
                yield indent + "  " + ", ".join(f"{name}={_text(v)}" for name, v in item.items())
        else:
            yield f"{indent}{key}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value)
