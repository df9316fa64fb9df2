"""A pytest plugin that writes down what each check found, as JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "DS_CONFORMANCE_LINES"
ONLY = "DS_CONFORMANCE_ONLY"


class Lines:
    """Appends one line for each check that has ended, so that a crash loses none before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checks: dict[str, Any] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learn which check each test is."""
        for item in items:
            self.checks[item.nodeid] = getattr(getattr(item, "function", None), "ds_check", None)
        only = tuple(filter(None, os.environ.get(ONLY, "").split(",")))
        if only:
            ids = {node: check.id if check else "" for node, check in self.checks.items()}
            items[:] = [item for item in items if ids[item.nodeid].startswith(only)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a line when a test is over, or when it fails before or after its call."""
        if report.when != "call" and report.passed:
            return
        check = self.checks.get(report.nodeid)
        message = ""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            message = message.partition("CheckFailedError: ")[2] or message
        elif report.skipped and isinstance(report.longrepr, tuple):
            message = report.longrepr[2].removeprefix("Skipped: ")
        line = {
            "id": check.id if check else "",
            "test": report.nodeid.rpartition("::")[2],
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
            "reason": check.reason if check else "",
            "message": message,
            "figures": dict(report.user_properties),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Write lines where the runner asked for them."""
    path = os.environ.get(VARIABLE)
    if path:
        config.pluginmanager.register(Lines(Path(path)))
