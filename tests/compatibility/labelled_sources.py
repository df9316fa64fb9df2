"""Sources that were labelled by hand, and how a scan compares with their labels.

A label is a line, a rule and, for a name without a counterpart, the name. Sources in C++ are
labelled for AMD's cards, those in Python for a device of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ds_core.compatibility.native_judge import NativeJudge
from ds_core.compatibility.python_judge import judge_python
from ds_core.compatibility.sources import Tree

from .targets import ELSEWHERE

FOLDER = Path(__file__).with_name("labelled")
ROOT = Path(__file__).resolve().parents[2]
Label = tuple[int, str, str]


class Labelled(NamedTuple):
    """One source: what is labelled and what was found."""

    path: Path
    expected: frozenset[Label]
    found: frozenset[Label]


def rocm():
    """What AMD's backend says; from its folder in a clone, where it is not installed."""
    folder = str(ROOT / "plugins" / "ds-rocm" / "src")
    if folder not in sys.path:
        sys.path.append(folder)
    from ds_rocm.porting import porting

    return porting()


def labelled() -> Iterator[Labelled]:
    """Every source, in the order of their names."""
    from ds_core.compatibility.native_scan import scan_native
    from ds_core.compatibility.python_scan import scan_python

    target = rocm()
    for source in Tree(FOLDER).sources():
        if source.kind == "python":
            findings = list(judge_python(scan_python(source.data), source.path, "lab", ELSEWHERE))
        else:
            scans = {source.path: scan_native(source.text, source.is_cuda)}
            findings = list(NativeJudge(scans, "rocm", target).findings())
        path = Path(source.path)
        found = {
            (f.line, f.rule, f.what.split()[0] if f.rule == "native-name" else "") for f in findings
        }
        yield Labelled(path, _labels(path), frozenset(found))


def _labels(path: Path) -> frozenset[Label]:
    lines = path.with_name(f"{path.name}.labels").read_text().splitlines()
    parts = [[*line.split(), ""] for line in lines]
    return frozenset((int(part[0]), part[1], part[2]) for part in parts)
