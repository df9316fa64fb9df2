"""Findings in SARIF 2.1.0, which code hosts show beside the lines that they are about.

The format is OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0". Findings
about the machine have no file, without which hosts refuse a result: they are notifications.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ds_core import __version__
from ds_core.compatibility.findings import Finding
from ds_core.compatibility.rules import RULES

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_IDS = list(RULES)


def sarif(findings: Sequence[Finding], base: Path) -> str:
    """A log with one run.

    Args:
        findings: All of them.
        base: Where paths start, as the root of a repository; files outside are named in full.
    """
    placed = [finding for finding in findings if finding.path]
    others = [finding for finding in findings if not finding.path]
    run = {
        "tool": {
            "driver": {
                "name": "ds check-compatibility",
                "version": __version__,
                "rules": [_rule(name) for name in _IDS],
            }
        },
        "originalUriBaseIds": {"ROOT": {"uri": base.resolve().as_uri().rstrip("/") + "/"}},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": finding.level,
                        "message": {"text": _message(finding)},
                        "associatedRule": {"id": finding.rule, "index": _IDS.index(finding.rule)},
                    }
                    for finding in others
                ],
            }
        ],
        "results": [_result(finding, base) for finding in placed],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": f"{rule.title}."},
        "fullDescription": {"text": rule.help},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": rule.level},
    }


def _result(finding: Finding, base: Path) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": _artifact(finding.path, base)}
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": _IDS.index(finding.rule),
        "level": finding.level,
        "message": {"text": _message(finding)},
        "locations": [{"physicalLocation": location}],
    }
    if finding.target:
        result["properties"] = {"target": finding.target}
    return result


def _message(finding: Finding) -> str:
    text = f"{finding.what} {finding.mend}".strip()
    return f"[{finding.target}] {text}" if finding.target else text


def _artifact(path: str, base: Path) -> dict[str, Any]:
    absolute = Path(path).absolute()
    try:
        relative = absolute.relative_to(base.absolute()).as_posix()
    except ValueError:
        return {"uri": absolute.as_uri()}
    return {"uri": quote(relative), "uriBaseId": "ROOT"}
