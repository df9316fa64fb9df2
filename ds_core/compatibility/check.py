"""One run of the check: the machine, the project, each target, and what to upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ds_core.compatibility import machine, upgrades
from ds_core.compatibility.findings import (
    CompatibilityReport,
    DtypeRow,
    Finding,
    TargetReport,
    ordered,
)
from ds_core.compatibility.native_judge import NativeJudge
from ds_core.compatibility.native_scan import NativeScan, scan_native
from ds_core.compatibility.python_judge import judge_python
from ds_core.compatibility.python_scan import Use, scan_python
from ds_core.compatibility.sources import Source, Tree
from ds_core.components.porting import DTYPES, Porting
from ds_core.errors import UnknownNameError
from ds_core.explain import backend_row
from ds_core.registry import Record, Registry
from ds_core.selection import Candidate, candidates

ALL = "all"
"""As a target: every backend that is installed."""


class Project(NamedTuple):
    """What stands in a project, whatever it is to run on."""

    python: dict[str, list[Use]]
    native: dict[str, NativeScan]
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]


def check(
    registry: Registry,
    path: Path | None = None,
    targets: Sequence[str] = (),
    *,
    root: str = "/",
    import_torch: bool = False,
) -> CompatibilityReport:
    """Look at everything. Imports torch, in another process, only with `import_torch`.

    Args:
        registry: What is installed.
        path: A project's folder or one file; None for the machine alone.
        targets: Names of backends, or `all`; none for the one that `auto` would take here.
        root: Where `/sys`, `/proc` and `/dev` are looked for.
        import_torch: Whether to try the import.

    Raises:
        UnknownNameError, PluginError: A target is not installed or cannot be used.
    """
    found = candidates(registry, root)
    chosen = _targets(registry, found, targets)
    project = read(path) if path is not None else Project({}, {}, (), ())
    names = {record.full_name for record in chosen}
    here = list(machine.machine_findings(found, names, registry, root))
    if import_torch:
        here += machine.import_findings()
    problems = upgrades.unmet(registry)
    findings = [*here, *upgrades.upgrade_findings(problems), *project.findings]
    reports = []
    for record in chosen:
        candidate = next(one for one in found if one.record.full_name == record.full_name)
        report, more = _target(candidate, project)
        reports.append(report)
        findings += more
    rows = [backend_row(candidate) for candidate in found]
    drivers = [f for f in here if f.rule == "machine" and f.level == "error"]
    return CompatibilityReport(
        path=str(path) if path is not None else None,
        machine=tuple(rows),
        targets=tuple(reports),
        files={"python": len(project.python), "native": len(project.native)},
        skipped=project.skipped,
        findings=ordered(findings),
        upgrades=upgrades.upgrade_plan(problems, drivers),
    )


def read(path: Path) -> Project:
    """Read and scan every source below `path`."""
    tree = Tree(path)
    python: dict[str, list[Use]] = {}
    native: dict[str, NativeScan] = {}
    for source in tree.sources():
        if source.kind == "python":
            uses, problem = _python(source)
            python[source.path] = uses
            tree.findings += problem
        else:
            native[source.path] = scan_native(source.text, source.is_cuda)
    own = _own_modules(path, [*python, *native])
    for name, uses in python.items():
        python[name] = [
            use
            for use in uses
            if use.rule != "cuda-package" or use.subject.partition(".")[0] not in own
        ]
    return Project(python, native, tuple(tree.findings), tuple(tree.skipped))


def _python(source: Source) -> tuple[list[Use], list[Finding]]:
    findings: list[Finding] = []
    try:
        return scan_python(source.data), findings
    except SyntaxError as error:
        if "decode" in str(error) or "encoding" in str(error) or "unicode" in str(error).lower():
            what = "It is not in the encoding that it declares, and was read byte by byte."
            findings.append(Finding(rule="encoding", level="note", what=what, path=source.path))
            try:
                return scan_python(source.text), findings
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                pass
        line, what = error.lineno or 0, _syntax(error)
    except (ValueError, RecursionError, MemoryError) as error:
        line, what = 0, f"It cannot be parsed ({type(error).__name__}), and was not checked."
    findings.append(
        Finding(rule="python-syntax", level="warning", what=what, path=source.path, line=line)
    )
    return [], findings


def _syntax(error: SyntaxError) -> str:
    message = (error.msg or "invalid syntax").rstrip(".")
    if "print" in message or "exec" in message or "multiple exception types" in message:
        return f"It is written for Python 2 ({message}), and was not checked."
    return f"It cannot be parsed ({message}), and was not checked."


def _own_modules(root: Path, paths: Sequence[str]) -> frozenset[str]:
    """Top-level names that the project itself defines."""
    base = root if root.is_dir() else root.parent
    own = {base.resolve().name}
    for path in paths:
        try:
            parts = list(PurePosixPath(path).relative_to(base.as_posix()).parts)
        except ValueError:
            continue
        if len(parts) > 1 and parts[0] == "src":
            parts = parts[1:]
        own.add(PurePosixPath(parts[0]).stem)
    return frozenset(own)


def _targets(registry: Registry, found: Sequence[Candidate], names: Sequence[str]) -> list[Record]:
    if ALL in names:
        return [record for record in registry.records("backend") if record.status == "ok"]
    if names:
        return list(dict.fromkeys(registry.find("backend", name) for name in names))
    usable = next((one for one in found if one.usable), None)
    if usable is None:
        raise UnknownNameError(
            "No backend is usable here, so that there is no target to check for.",
            mend="Name one with --target; `ds backends` lists them.",
        )
    return [usable.record]


def _target(candidate: Candidate, project: Project) -> tuple[TargetReport, list[Finding]]:
    record, probe = candidate.record, candidate.probe
    devices = probe.devices if probe else ()
    device, arch = (devices[0].name, devices[0].arch) if devices else ("", "")
    porting, problem = _porting(candidate)
    report = TargetReport(
        name=record.name,
        distribution=f"{record.distribution} {record.version}",
        checked=porting is not None,
        device=device,
        arch=arch,
    )
    if porting is None:
        return report, [problem] if problem else []
    findings: list[Finding] = []
    for path, uses in project.python.items():
        findings += judge_python(uses, path, record.name, porting, arch)
    judge = NativeJudge(project.native, record.name, porting)
    findings += judge.findings()
    rows = [DtypeRow(rule=porting.dtype(name, arch), loss_scale=name == "fp16") for name in DTYPES]
    return report.model_copy(update={"dtypes": tuple(rows), "coverage": judge.coverage()}), findings


def _porting(candidate: Candidate) -> tuple[Porting | None, Finding | None]:
    name = candidate.record.name
    if candidate.backend is None:
        return None, None  # why stands among the machine's findings
    try:
        porting = candidate.backend.porting()
    except Exception as error:  # a plugin's mistake is told, and takes nothing else down
        what = f"Backend {name!r} failed when it was asked what code needs on it: {error}."
        return None, Finding(rule="backend", level="error", what=what, target=name)
    if porting is None:
        what = f"Backend {name!r} does not say what code needs on it: its code was not checked."
        return None, Finding(rule="backend", level="warning", what=what, target=name)
    return porting, None
