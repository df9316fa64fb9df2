"""What a check finds, in one form for people, programs and code hosts."""

from __future__ import annotations

from collections.abc import Iterable

from ds_core.components.backend import Frozen
from ds_core.components.porting import DtypeRule, Level
from ds_core.explain import BackendRow

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""The worst first."""


class Finding(Frozen):
    """One thing that stands in the way or is worth knowing."""

    rule: str
    """As in `rules.RULES`."""
    level: Level
    what: str
    """A sentence."""
    mend: str = ""
    """What to do about it, a sentence; empty where nothing can be advised."""
    path: str = ""
    """The file, as it was named or found; empty where it is about the machine."""
    line: int = 0
    """Counted from 1; 0 where it is about the whole file."""
    column: int = 0
    target: str = ""
    """The backend that it is about; empty where it is about all."""
    count: int = 1
    """How often the same stands in the file."""

    @property
    def place(self) -> str:
        """As `file:line`, or what stands for it."""
        return f"{self.path}:{self.line}" if self.path and self.line else self.path


class Coverage(Frozen):
    """What becomes of the names of CUDA's that a project's native code uses on a target."""

    mapped: tuple[str, ...]
    identity: tuple[str, ...]
    """Called the same there."""
    unmapped: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """`mapped / (mapped + unmapped)`, each name counted once; None where there is neither."""
        both = len(self.mapped) + len(self.unmapped)
        return len(self.mapped) / both if both else None


class DtypeRow(Frozen):
    """How a dtype does on a target's device, as far as is known without torch."""

    rule: DtypeRule
    loss_scale: bool
    """Whether training in it needs a loss scale."""


class TargetReport(Frozen):
    """All about one target."""

    name: str
    distribution: str
    checked: bool
    """False where its backend does not say what it needs: its code was not looked at."""
    device: str = ""
    """The device on this machine, or empty where there is none."""
    arch: str = ""
    dtypes: tuple[DtypeRow, ...] = ()
    coverage: Coverage | None = None
    """None where there is no native code, or none of it ports."""


class Upgrade(Frozen):
    """One step; steps stand in the order in which to take them."""

    what: str
    why: str


class CompatibilityReport(Frozen):
    """All of one run."""

    path: str | None
    """What was looked at besides the machine."""
    machine: tuple[BackendRow, ...]
    targets: tuple[TargetReport, ...]
    files: dict[str, int]
    """How many files were read, by kind: `python`, `native`."""
    skipped: tuple[str, ...]
    """Folders that were not looked into."""
    findings: tuple[Finding, ...]
    upgrades: tuple[Upgrade, ...]

    @property
    def stops(self) -> bool:
        """Whether anything was found that keeps a program from running."""
        return any(finding.level == "error" for finding in self.findings)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By target, level, file and place."""
    return tuple(
        sorted(
            findings,
            key=lambda f: (f.target, LEVELS.index(f.level), f.path, f.line, f.column, f.rule),
        )
    )
