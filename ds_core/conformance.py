"""Runs a component's conformance suite in a process of its own and gathers what it found."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import importlib_metadata

from ds_core import __version__
from ds_core.components.torch_version import torch_build
from ds_core.conformance_report import CheckResult, ConformanceReport
from ds_core.errors import DsError
from ds_core.registry import Record, Registry

SUITES = {
    "backend": "BackendConformance",
    "command": "CommandConformance",
    "observer": "ObserverConformance",
    "precision": "PrecisionConformance",
    "pruner": "PrunerConformance",
    "topology": "TopologyConformance",
    "transform": "TransformConformance",
}
"""The suite in `ds_core.testing` of each kind that has one."""

MODULE = """
from ds_core.registry import installed
from ds_core.testing import {suite}

class TestComponent({suite}):
    name = {name!r}

if {kind!r} != "command":
    for key, value in installed().load({kind!r}, {name!r})[1].conformance.items():
        setattr(TestComponent, key, value)
if {kind!r} == "backend" and "present" not in vars(TestComponent):
    TestComponent.present = installed().load({kind!r}, {name!r})[1].probe().usable
"""

LIMIT = 1800
"""Seconds after which a suite counts as hanging."""


def checkable(registry: Registry) -> list[Record]:
    """Everything installed that a suite exists for and that is not switched off."""
    return [
        record
        for record in registry.records()
        if record.kind in SUITES and record.status != "disabled"
    ]


def run_suite(record: Record, only: Sequence[str] = ()) -> ConformanceReport:
    """Run the checks of one component. What it breaks, it breaks in a process of its own.

    Args:
        record: The component's entry point.
        only: Beginnings of check ids, as `detach` or `state.continues`; all checks without any.

    Raises:
        DsError: pytest is not installed.
    """
    try:
        pytest_version = importlib_metadata.version("pytest")
    except importlib_metadata.PackageNotFoundError:
        raise DsError(
            "Conformance suites need pytest, which is not installed.",
            mend='Run: pip install "ds-core[testing]"',
        ) from None
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ds-check-") as folder:
        module, lines = Path(folder) / "test_component.py", Path(folder) / "lines"
        module.write_text(
            MODULE.format(suite=SUITES[record.kind], name=record.full_name, kind=record.kind)
        )
        crash = _run_pytest(module, lines, only)
        found = lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []
    build = torch_build()
    return ConformanceReport(
        kind=record.kind,
        name=record.name,
        distribution=record.distribution,
        version=record.version,
        versions={
            "python": platform.python_version(),
            "torch": build.version if build else "",
            "ds-core": __version__,
            "pytest": pytest_version,
        },
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - start, 1),
        checks=[CheckResult.model_validate_json(line) for line in found],
        crash=crash,
    )


def _run_pytest(module: Path, lines: Path, only: Sequence[str]) -> str:
    """Run the suite; returns why it ended early, or an empty string."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-o", "addopts="]
    command += ["-p", "ds_core.testing.conformance.reporting", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(module.parent), "-c", os.devnull, str(module)]
    environ = {**os.environ, "DS_CONFORMANCE_LINES": str(lines)}
    environ["DS_CONFORMANCE_ONLY"] = ",".join(only)
    try:
        done = subprocess.run(
            command,
            cwd=module.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the suite did not end within {LIMIT} seconds"
    if done.returncode in (0, 1) and lines.exists():
        return ""
    if done.returncode < 0:
        return f"the suite was ended by signal {-done.returncode} (a crash in native code)"
    if done.returncode == 5:
        return f"no check is called {' or '.join(only)}"
    tail = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("E ")]
    last = tail[-1][2:].strip() if tail else f"pytest ended with {done.returncode}"
    return re.sub(r"^ds_core\.errors\.\w+: ", "", last).rstrip(".")
