"""What each component is, in one line, without importing it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path

from ds_core.registry import Record

# A class or a function, its arguments, and a docstring right behind it. Parsing the sources of all
# that is installed would take most of the time of a listing.
_DOCUMENTED = (
    r"""^(?:class|def) {name}\b(?:\((?:[^()]|\([^()]*\))*\))?[^:("]*:\s*\n\s+r?\"{{3}}(.+)$"""
)


def own_summary(record: Record) -> Record:
    """The record with the first line of its class's or function's docstring as summary.

    The source is read as text. Where it says nothing of the kind, the distribution's summary stays.
    """
    module, _, attribute = record.value.partition("[")[0].partition(":")
    source = _source(module.strip())
    found = re.search(_DOCUMENTED.format(name=re.escape(attribute.strip())), source, re.MULTILINE)
    if found is None:
        return record
    return replace(record, summary=found[1].partition('"""')[0].strip().removesuffix("."))


def _source(module: str) -> str:
    top, *inner = module.split(".")
    try:
        spec = PathFinder.find_spec(top, sys.path)
        if spec is None:
            return ""
        if not inner:
            return Path(spec.origin or "").read_text(encoding="utf-8")
        for folder in spec.submodule_search_locations or ():
            path = Path(folder, *inner)
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.is_file():
                    return file.read_text(encoding="utf-8")
    except (OSError, ValueError):  # a listing shows what it can
        pass
    return ""
