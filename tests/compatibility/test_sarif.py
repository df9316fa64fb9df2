"""What SARIF 2.1.0 requires, and what code hosts refuse a file for."""

import json
from pathlib import Path
from urllib.parse import unquote

from ds_core.compatibility.findings import Finding
from ds_core.compatibility.rules import RULES
from ds_core.compatibility.sarif import sarif

LEVELS = {"none", "note", "warning", "error"}


def valid(log):
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    assert log["$schema"].startswith("https://")
    for run in log["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"]
        ids = [rule["id"] for rule in driver["rules"]]
        assert len(set(ids)) == len(ids)
        for rule in driver["rules"]:
            assert rule["shortDescription"]["text"].endswith(".")
            assert rule["help"]["text"]
            assert rule["defaultConfiguration"]["level"] in LEVELS
        for base in run["originalUriBaseIds"].values():
            assert base["uri"].startswith("file:///")
            assert base["uri"].endswith("/")
        for result in run["results"]:
            assert ids[result["ruleIndex"]] == result["ruleId"]
            assert result["level"] in LEVELS
            assert result["message"]["text"]
            assert result["locations"]
            for location in result["locations"]:
                physical = location["physicalLocation"]
                artifact = physical["artifactLocation"]
                assert artifact["uri"]
                assert artifact.get("uriBaseId", "ROOT") in run["originalUriBaseIds"]
                region = physical.get("region", {"startLine": 1, "startColumn": 1})
                assert region["startLine"] >= 1
                assert region["startColumn"] >= 1
        for invocation in run["invocations"]:
            assert invocation["executionSuccessful"] is True
            for notification in invocation["toolExecutionNotifications"]:
                assert notification["message"]["text"]
                assert notification["level"] in LEVELS
                rule = notification["associatedRule"]
                assert ids[rule["index"]] == rule["id"]


FINDINGS = [
    Finding(rule="cuda-call", level="error", what="Odd.", path="a b/ü.py", line=3, column=2),
    Finding(rule="too-large", level="warning", what="Big.", mend="Cut it.", path="a.py"),
    Finding(rule="wmma", level="note", what="Far.", path="/elsewhere/a.cu", line=1, target="lab"),
    Finding(rule="machine", level="error", what="No driver.", mend="Install it."),
]


def test_a_log_has_what_the_standard_and_hosts_require(tmp_path):
    log = json.loads(sarif(FINDINGS, tmp_path))
    valid(log)
    (run,) = log["runs"]
    assert len(run["results"]) == 3
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"] == "No driver. Install it."


def test_paths_are_relative_to_the_base_and_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = json.loads(sarif(FINDINGS, Path.cwd()))["runs"][0]["results"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]
    assert " " not in uris[0]
    assert unquote(uris[0]) == "a b/ü.py"
    assert uris[2] == "file:///elsewhere/a.cu"


def test_a_log_without_findings_is_valid(tmp_path):
    valid(json.loads(sarif([], tmp_path)))


def test_rules_have_sentences():
    for rule in RULES.values():
        assert not rule.title.endswith(".")
        assert rule.help.endswith(".")
