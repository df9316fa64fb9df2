"""What a trace tells: which dtype each layer had, from which step to which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core.errors import ConfigError
from ds_dmp import trace


@dataclass(frozen=True)
class Span:
    """A run of steps in one dtype; the last step is not in it."""

    first: int
    end: int
    dtype: str
    why: str
    """Why the unit came to this dtype; empty for the first."""


@dataclass(frozen=True)
class History:
    """One training, as its trace tells it."""

    header: dict[str, Any]
    looks: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> History:
        """From a file that the option `trace` wrote.

        Raises:
            ConfigError: It cannot be read, is no trace, or has no look in it.
        """
        header, looks = trace.read(path)
        if not looks:
            raise ConfigError(
                f"The training of {path} ended before its first look.", mend="Train for longer."
            )
        return cls(header, looks)

    @property
    def units(self) -> list[str]:
        """Names, in the model's order."""
        return [unit["name"] for unit in self.header["units"]]

    @property
    def steps(self) -> int:
        """The last step that was looked at."""
        return int(self.looks[-1]["step"])

    @property
    def flips(self) -> list[dict[str, Any]]:
        """All changes of dtype, in order."""
        return [flip for look in self.looks for flip in look["flips"]]

    def spans(self, unit: str) -> list[Span]:
        """What one unit computed in, from step 0 to the last look."""
        found: list[Span] = []
        for look in self.looks:
            dtype = look["dtypes"].get(unit)
            if dtype is None:
                continue
            if found and found[-1].dtype == dtype:
                continue
            flip = next((one for one in look["flips"] if one["unit"] == unit), None)
            start = look["step"] if found or flip is not None else 0
            if not found and flip is not None:
                found.append(Span(0, start, flip["before"], ""))
            if found:
                found[-1] = Span(found[-1].first, start, found[-1].dtype, found[-1].why)
            found.append(Span(start, start, dtype, flip["why"] if flip else ""))
        if found:
            last = found[-1]
            found[-1] = Span(last.first, max(self.steps, last.first + 1), last.dtype, last.why)
        return found

    def summary(self) -> dict[str, Any]:
        """Figures of the whole training."""
        low = total = 0.0
        work = {
            unit: max((look["work"].get(unit, 0) for look in self.looks), default=0) or 1
            for unit in self.units
        }
        for unit in self.units:
            for span in self.spans(unit):
                steps = (span.end - span.first) * work[unit]
                total += steps
                low += steps if span.dtype != "fp32" else 0
        return {
            "model": self.header["model"],
            "units": len(self.units),
            "looks": len(self.looks),
            "steps": self.steps,
            "flips": len(self.flips),
            "share": low / total if total else 0.0,
        }
