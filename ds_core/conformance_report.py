"""What a conformance suite found: a file that authors publish."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pydantic

from ds_core.errors import DsError
from ds_core.registry import Record

VARIABLE = "DS_STATE_DIR"


class CheckResult(pydantic.BaseModel):
    """One check, on one of its parameters."""

    id: str
    """`group.name`, stable across releases; empty for an author's own test."""
    test: str
    outcome: Literal["passed", "failed", "skipped"]
    seconds: float
    reason: str = ""
    """Why a component must pass it."""
    message: str = ""
    """What was found and what to do, or why it was skipped."""
    figures: dict[str, Any] = {}
    """What was measured, as `{"overhead": 1.02}`."""


class ConformanceReport(pydantic.BaseModel):
    """All checks of one component, with what they ran on."""

    format: int = 1
    kind: str
    name: str
    distribution: str
    version: str
    versions: dict[str, str]
    """Of Python, torch, ds-core and pytest."""
    machine: str
    finished: str
    """Date and time in UTC, ISO 8601."""
    seconds: float
    checks: list[CheckResult]
    crash: str = ""
    """Why the run ended early; empty where it did not."""

    def count(self, outcome: str) -> int:
        """How many checks ended so."""
        return sum(check.outcome == outcome for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether every check that was not skipped passed, and there was one."""
        return not self.crash and not self.count("failed") and self.count("passed") > 0


def report_path(record: Record) -> Path:
    """Where the last report of a component is kept."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        import platformdirs

        folder = platformdirs.user_state_dir("ds-core")
    name = f"{record.distribution}--{record.kind}--{record.name}.json"
    return Path(folder) / "conformance" / name


def last_report(record: Record) -> ConformanceReport | None:
    """The last report of a component on this machine, if there is one that can be read."""
    try:
        return ConformanceReport.model_validate_json(report_path(record).read_bytes())
    except (OSError, ValueError):
        return None


def write_report(report: ConformanceReport, path: Path) -> None:
    """Write a report, whole or not at all.

    Raises:
        DsError: The file cannot be written; says why.
    """
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise DsError(
            f"Cannot write the report to {path}: {error.strerror}.",
            mend=f"Give another place with --report, or set {VARIABLE}.",
        ) from None
