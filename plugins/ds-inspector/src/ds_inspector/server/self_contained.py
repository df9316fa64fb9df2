"""The page as one file, which asks nobody for anything.

What the page may ask is answered beforehand, the most important first, as long as there is room;
the page says what was left out. Scripts and styles are allowed by their hashes, data are packed
as base64, so that no name in them can end an element.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from ds_core.errors import DsError, RefusedError
from ds_inspector.recording import Recording
from ds_inspector.server import assets
from ds_inspector.server.answers import Answers
from ds_inspector.server.questions import Question, flame_question

BUDGET = 24 * 2**20
"""Bytes of answers, packed; a file is a third larger."""

_OF_GRAPH = 0.5
"""Share of the budget that groups of the graph may take."""


def write_html(recordings: Sequence[Recording], path: Path, *, budget: int = BUDGET) -> list[str]:
    """Write the page with one or two recordings.

    Args:
        recordings: What is looked at, and what it is compared with.
        path: Replaced only once the new file is complete.
        budget: Bytes of packed answers at most.

    Returns:
        What was left out: a sentence each.

    Raises:
        RefusedError: The file cannot be written, or the page was not built.
    """
    answers = Answers(recordings)
    packed, left_out = _answered(answers, budget)
    text = _document(answers.title, packed)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise RefusedError(
            f"{path} cannot be written: {error.strerror}.",
            mend="See that the folder exists and has room.",
        ) from error
    return left_out


def _answered(answers: Answers, budget: int) -> tuple[bytes, list[str]]:
    found: dict[str, orjson.Fragment] = {}
    used = 0
    omitted: list[str] = []

    def add(question: Question, limit: float) -> Any:
        """An answer, if there is room for it."""
        nonlocal used
        name, query = question
        try:
            content = answers.json(name, query)
        except DsError:
            return None  # as with a second recording that is of another kind
        # Packed alone it is a little larger than together with the others.
        size = len(gzip.compress(content, 1))
        if used + size > limit:
            return None
        used += size
        found[_key(question)] = orjson.Fragment(content)
        return orjson.loads(content)

    for question in _first(answers):
        if add(question, budget) is None and question[0] == "flame":
            omitted.append("Some flame graphs are left out.")
    for index in range(len(answers.recordings)):
        missing = _groups(answers, index, lambda asked: add(asked, budget * _OF_GRAPH))
        if missing:
            omitted.append(f"{missing:,} groups of the graph are left out, the innermost ones.")
    for question in _further(answers):
        if add(question, budget) is None:
            omitted.append("Some flame graphs are left out.")
    if any(recording.steps.rows > 1 for recording in answers.recordings):
        omitted.append("Flame graphs of single steps are left out.")
    if any(recording.tensors.rows > 2000 for recording in answers.recordings):
        omitted.append("Lifetimes are those of the 2,000 largest tensors.")
    left_out = list(dict.fromkeys(omitted))
    data = orjson.dumps({"answers": found, "left_out": left_out})
    return gzip.compress(data, 9), left_out


def _key(question: Question) -> str:
    """As the page forms it."""
    name, query = question
    return f"{name}?{'&'.join(f'{key}={value}' for key, value in sorted(query.items()))}"


def _first(answers: Answers) -> Iterator[Question]:
    yield "session", {}
    for index in range(len(answers.recordings)):
        r = {"r": str(index)}
        yield "summary", r
        yield "graph", r
        yield flame_question(index)
        for name in ("operators", "memory", "advice"):
            yield name, r
    if len(answers.recordings) > 1:
        yield "difference", {}
        yield flame_question(0, against=1)


def _further(answers: Answers) -> Iterator[Question]:
    others = (0, 1) if len(answers.recordings) > 1 else (0,)
    for index, recording in enumerate(answers.recordings):
        known = set(recording.events.texts("phase").values)
        phases = [one for one in ("forward", "backward", "optimizer") if one in known]
        for phase in ("all", *(phases if len(phases) > 1 else ())):
            for by in ("module", "operator", "source"):
                for inverted in (0, 1):
                    for against in others:
                        question = flame_question(index, by, phase, inverted, against)
                        if question not in (flame_question(index), flame_question(0, against=1)):
                            yield question


def _groups(answers: Answers, index: int, add: Any) -> int:
    """Ask for groups, the outer ones first; return how many had no room."""
    root = answers.value("graph", r=str(index))
    waiting = deque(_inside(root))
    missing = 0
    while waiting:
        path = waiting.popleft()
        group = add(("graph", {"r": str(index), "group": path}))
        if group is None:
            missing += 1
        else:
            waiting.extend(_inside(group))
    return missing


def _inside(group: dict[str, Any]) -> list[str]:
    return [node["id"][2:] for node in group["nodes"] if node["node"] is None]


def _document(title: str, data: bytes) -> str:
    script = _inlined(assets.read("app.js").decode(), "script")
    style = _inlined(assets.read("app.css").decode(), "style")
    layout = gzip.compress(assets.read("layout.js"), 9)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    licences = assets.read("THIRD_PARTY.txt").decode().replace("--", "- -")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<!--
{licences}-->
<div id="app"></div>
<script type="application/octet-stream" id="data">{_text(data)}</script>
<script type="application/octet-stream" id="layout">{_text(layout)}</script>
<script type="module">{script}</script>
</body>
</html>
"""


def _inlined(text: str, element: str) -> str:
    """A text that does not end the element that it stands in."""
    ends = re.compile(rf"</(?={element})|<(?=!--)", re.I)
    return ends.sub(lambda match: f"<\\{match[0][1:]}", text)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
