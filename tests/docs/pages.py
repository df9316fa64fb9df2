"""The documentation's pages as programs: their blocks are run, and what they show is compared.

A page is read from top to bottom, in one empty folder and one Python namespace:

* a block with a `title` is a file, which is written to the folder;
* a `python` block is executed; a `text` block right after it shows what it prints;
* a `console` block holds commands behind `$ `, each with what it prints.

Two marks, as in ```` ``` {.console .here} ````, say that a block is special: `.not-run` is not
executed, and the text around it says why; the output of `.here` depends on the machine, so only
the labels of its lines are compared.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

HOME = "/home/you"
"""Stands in the pages for the reader's home folder; they work in a folder `job` below it."""

_FENCE = re.compile(r"^(?P<fence>```+) ?(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
_COMMAND = re.compile(r'(\w+=("[^"]*"|\S+) )*(ds|python|torchrun)\b')


@dataclass
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Where its body begins, counted from 1."""
    language: str
    marks: frozenset[str]
    title: str
    body: str
    shows: Block | None = None
    """The output that stands right after it."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def runs(self, language: str) -> bool:
        return self.language == language and "not-run" not in self.marks and not self.title


def blocks(page: str, text: str) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    end = 0
    for match in _FENCE.finditer(text):
        info = match["info"]
        names = re.findall(r"\.([\w-]+)", info.partition("}")[0]) if info.startswith("{") else []
        language = names[0] if names else info.partition(" ")[0]
        title = re.search(r'title="([^"]*)"', info)
        block = Block(
            page=page,
            line=text.count("\n", 0, match.start("body")) + 1,
            language=language,
            marks=frozenset(names[1:]),
            title=title[1] if title else "",
            body=match["body"],
        )
        adjoining = not text[end : match.start()].strip()
        if found and adjoining and block.language == "text" and found[-1].runs("python"):
            found[-1].shows = block
        found.append(block)
        end = match.end()
    return found


def commands(body: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            command, shown = found.pop()
            found.append((command, shown + line))
    return found


class Page:
    """One page, run in `folder`; `outputs` are the blocks with what they really printed."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.text = path.read_text(encoding="utf-8")
        self.blocks = blocks(path.relative_to(ROOT).as_posix(), self.text)

    def run(self) -> Iterator[tuple[Block, str, str]]:
        """Run the page; yield each block that shows output, what it shows and what was printed."""
        namespace: dict[str, Any] = {"__name__": "__main__"}
        known = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        try:
            for block in self.blocks:
                if block.title:
                    (self.folder / block.title).write_text(block.body, encoding="utf-8")
                elif block.runs("python"):
                    printed = self._execute(block, namespace)
                    if block.shows is not None or printed:
                        shown = block.shows.body if block.shows else ""
                        yield block.shows or block, shown, printed
                elif block.runs("console"):
                    for command, shown in commands(block.body):
                        yield block, shown, self._call(block, command)
        finally:
            sys.path.remove(str(self.folder))
            for name in set(sys.modules) - known:
                if (self.folder / f"{name}.py").exists():
                    del sys.modules[name]

    def _execute(self, block: Block, namespace: dict[str, Any]) -> str:
        printed = io.StringIO()
        # Tracebacks then point into the page.
        code = compile("\n" * (block.line - 1) + block.body, str(self.path), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        return self._told(printed.getvalue())

    def _call(self, block: Block, command: str) -> str:
        assert _COMMAND.match(command), f"{block.place}: mark `{command}` as .not-run and say why"
        binaries = str(Path(sys.executable).parent)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={
                # As at a reader's terminal: in CI, pytest does not shorten its lines.
                **{name: value for name, value in os.environ.items() if name != "CI"},
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "COLUMNS": "80",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self._told(done.stdout)

    def _told(self, printed: str) -> str:
        """What was printed, with the folders that a reader would have."""
        settings = os.environ["DS_CONFIG_DIR"]
        return printed.replace(str(self.folder), f"{HOME}/job").replace(
            settings, f"{HOME}/.config/ds-core"
        )


def differences(block: Block, shown: str, printed: str) -> list[str]:
    """Lines that the page shows and that were not printed, and the other way round."""
    if "here" in block.marks:
        there = set(map(label, printed.splitlines()))
        return [f"- {line}" for line in shown.splitlines() if label(line) not in there]
    compared = difflib.unified_diff(normal(shown), normal(printed), n=0, lineterm="")
    return [line for line in compared if not line.startswith(("---", "+++", "@@"))]


def normal(text: str) -> list[str]:
    """Lines without what differs between machines and days: decimal numbers, versions, spacing."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    return [re.sub(r"\d+\.\d[\w.+]*(e-?\d+)?", "#", line) for line in lines if line]


def label(line: str) -> str:
    """What a line is about: the first column of a table, or the first word of a sentence."""
    column, spaces, _ = line.strip(" *").partition("  ")
    return column if spaces else column.partition(" ")[0].rstrip(":")
