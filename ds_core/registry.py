"""What is installed: entry points become records, and a record becomes a class when it is needed.

Listing reads the metadata of distributions and imports none of them. Loading goes through
stevedore, one entry point at a time; one that fails is remembered and hurts no other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import importlib_metadata

from ds_core.commands import COMMANDS
from ds_core.errors import DsError, PluginError, UnknownNameError, nearest
from ds_core.requirement import is_met, is_on_core
from ds_core.switches import Switches

GROUPS = {
    "ds.backends": "backend",
    "ds.passes.precision": "precision",
    "ds.passes.pruner": "pruner",
    "ds.passes.topology": "topology",
    "ds.passes.observer": "observer",
    "ds.passes.transform": "transform",
    "ds.models": "model",
    "ds.commands": "command",
}
"""Entry-point groups, with the kind of what they hold."""

CORE = "ds-core"

_USABLE = ("ok", "broken", "clash", "incompatible", "disabled")
"""What `status` may be, the most useful first."""


@dataclass(frozen=True)
class Record:
    """One entry point, as its distribution's metadata describes it."""

    kind: str
    name: str
    distribution: str
    version: str
    summary: str
    value: str
    """What would be imported, as `module:attribute`."""
    requirement: str = ""
    """The distribution's requirement on ds-core, empty where it states none."""
    status: str = "ok"
    """`ok`, `disabled`, `incompatible`, `clash` or, once it was tried, `broken`."""
    reason: str = ""
    home: str = field(default="", compare=False)

    @property
    def full_name(self) -> str:
        """`distribution:name`, which is never ambiguous."""
        return f"{self.distribution}:{self.name}"


class Registry:
    """All components, model sources and commands that are installed.

    Args:
        path: Folders to search for distributions; None for `sys.path`.
        switches: What is off; None reads the user's settings.
    """

    def __init__(self, path: list[str] | None = None, switches: Switches | None = None) -> None:
        self._path = path
        self._switches = Switches.read() if switches is None else switches
        self._records: list[Record] | None = None
        self._loaded: dict[Record, Any] = {}
        self._broken: dict[Record, PluginError] = {}

    def records(self, kind: str | None = None) -> list[Record]:
        """Everything installed of one kind or of all, sorted by kind and name."""
        if self._records is None:
            self._records = self._read()
        return [
            replace(record, status="broken", reason=self._broken[record].what)
            if record in self._broken
            else record
            for record in self._records
            if kind in (None, record.kind)
        ]

    def names(self, kind: str) -> list[str]:
        """The names of one kind that can be loaded, as far as metadata tells."""
        return [record.name for record in self.records(kind) if record.status == "ok"]

    def find(self, kind: str, name: str) -> Record:
        """The one record that `name` or `distribution:name` stands for.

        Raises:
            UnknownNameError: Nothing is called that; names near matches and the known plugin.
            PluginError: It is there but disabled, incompatible or ambiguous.
        """
        distribution, _, bare = name.rpartition(":")
        found = [
            record
            for record in self.records(kind)
            if record.name == bare and distribution in ("", record.distribution)
        ]
        if not found:
            raise self._unknown(kind, name)
        # One that can be used goes before its namesakes that are off or for another ds-core.
        record = min(found, key=lambda record: _USABLE.index(record.status))
        if record.status == "clash" and distribution:
            return record
        if record.status in ("disabled", "incompatible", "clash"):
            raise PluginError(f"{kind} {name!r} cannot be used: {record.reason}")
        return record

    def matching(self, name: str, kind: str | None = None) -> list[Record]:
        """All records that a component's, a full or a distribution's name stands for.

        Raises:
            UnknownNameError: Nothing is called that; names near matches and the known plugin.
        """
        found = [
            record
            for record in self.records(kind)
            if name in (record.name, record.full_name, record.distribution)
        ]
        if not found:
            raise self._unknown(kind, name)
        return found

    def load(self, kind: str, name: str) -> tuple[Record, Any]:
        """Import what `name` stands for.

        Raises:
            UnknownNameError: Nothing is called that.
            PluginError: It cannot be used, or its import failed.
        """
        record = self.find(kind, name)
        key = next(
            known
            for known in self._records or ()
            if known.full_name == record.full_name and known.kind == kind
        )
        if key in self._broken:
            known = self._broken[key]
            raise PluginError(known.what, mend=known.mend)
        if key not in self._loaded:
            try:
                self._loaded[key] = _load(key)
            except PluginError as error:
                # A copy: the error's traceback would keep its callers' models in memory.
                self._broken[key] = PluginError(error.what, mend=error.mend)
                raise
        return record, self._loaded[key]

    def _unknown(self, kind: str | None, name: str) -> UnknownNameError:
        # Without a kind it may be asked about, with one it is to be loaded.
        known = [record.name for record in self.records()] if kind is None else self.names(kind)
        plugins = _known_plugins(kind)
        if name in plugins:
            mend = f"It comes with a plugin: pip install {plugins[name]}"
        else:
            mend = nearest(name, [*known, *plugins])
            suggested = [other for other in plugins if repr(other) in mend and other not in known]
            if suggested:
                mend += f" {suggested[0]!r} comes with pip install {plugins[suggested[0]]}"
        everything = (
            f"Installed: {', '.join(known) or 'none'}." if kind else "See `ds plugins list`."
        )
        return UnknownNameError(
            f"There is no {kind or 'plugin'} {name!r} here.", mend=mend or everything
        )

    def _read(self) -> list[Record]:
        by_distribution: dict[str, list[Record]] = {}
        where = {} if self._path is None else {"path": self._path}
        for distribution in importlib_metadata.distributions(**where):
            records = list(_describe(distribution))
            # As with imports, the first on the path shadows the others.
            if records:
                by_distribution.setdefault(records[0].distribution, records)
        records = [self._judge(record) for group in by_distribution.values() for record in group]
        return sorted(_mark_clashes(records), key=lambda record: (record.kind, record.full_name))

    def _judge(self, record: Record) -> Record:
        switch = self._switches.switch(record.name, record.distribution)
        if switch is not None:
            name, place = switch
            how = f"ds plugins enable {name}" if place.endswith(".toml") else f"unset {place}"
            reason = f"it is switched off in {place}; to use it: {how}"
            return replace(record, status="disabled", reason=reason)
        where = self._switches.unlisted(record.name, record.distribution)
        if where is not None and record.distribution != CORE:
            reason = f"it is not on the list of {where}; add it there under plugins.allow"
            return replace(record, status="disabled", reason=reason)
        if record.requirement and not is_met(record.requirement):
            from ds_core import __version__

            reason = (
                f"{record.distribution} {record.version} needs {record.requirement}, but "
                f"{CORE} {__version__} is installed; upgrade one of them with pip"
            )
            return replace(record, status="incompatible", reason=reason)
        if record.kind == "command" and record.name in COMMANDS:
            reason = f"ds has a command of this name; run this one as `ds {record.full_name}`"
            return replace(record, status="clash", reason=reason)
        return record


@cache
def installed() -> Registry:
    """The registry of this process; `installed.cache_clear()` reads everything anew."""
    return Registry()


def _known_plugins(kind: str | None) -> dict[str, str]:
    """Distributions by the name of what they bring, whether they are installed or not."""
    import tomllib

    index = tomllib.loads((Path(__file__).parent / "index.toml").read_text(encoding="utf-8"))
    kinds = index if kind is None else {kind}
    return {name: plugin for key in kinds for name, plugin in index.get(key, {}).items()}


def _describe(distribution: Any) -> Iterator[Record]:
    # Reading one small file decides; the metadata of other packages is never read.
    points = list(_points(_text(distribution, "entry_points.txt")))
    if not points:
        return
    headers = _headers(_text(distribution, "METADATA") or _text(distribution, "PKG-INFO"))
    urls = dict(
        [part.strip() for part in line.partition(",")[::2]] for line in headers["project-url"]
    )
    home = headers["home-page"] or [urls.get("Homepage", next(iter(urls.values()), ""))]
    for group, name, value in points:
        yield Record(
            kind=GROUPS[group],
            name=name,
            distribution=re.sub(r"[-_.]+", "-", _first(headers["name"])).lower(),
            version=_first(headers["version"]),
            summary=_first(headers["summary"]),
            value=value,
            requirement=_first(filter(is_on_core, headers["requires-dist"])),
            home=home[0],
        )


def _first(values: Iterable[str]) -> str:
    return next(iter(values), "")


def _text(distribution: Any, name: str) -> str:
    try:
        return distribution.read_text(name) or ""
    except (OSError, UnicodeDecodeError):  # somebody's broken installation is not our business
        return ""


def _points(text: str) -> Iterator[tuple[str, str, str]]:
    """Group, name and value of our entry points; much faster than parsing those of everyone."""
    if "[ds." not in text:
        return
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[] ")
        elif group in GROUPS and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, name.strip(), value.strip()


def _headers(metadata: str) -> dict[str, list[str]]:
    """The header fields of a METADATA file, which is much faster than a full e-mail parser."""
    headers: dict[str, list[str]] = defaultdict(list)
    for line in metadata.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            headers[key.lower()].append(value.strip())
    return headers


def _mark_clashes(records: list[Record]) -> list[Record]:
    holders: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            holders[record.kind, record.name].append(record)

    def mark(record: Record) -> Record:
        same = holders.get((record.kind, record.name), [])
        if record.status != "ok" or len(same) < 2:
            return record
        names = sorted(other.full_name for other in same)
        reason = f"{len(names)} distributions offer it; choose {' or '.join(map(repr, names))}"
        return replace(record, status="clash", reason=reason)

    return [mark(record) for record in records]


def _load(record: Record) -> Any:
    from importlib.metadata import EntryPoint

    from stevedore.extension import ExtensionManager

    group = next(group for group, kind in GROUPS.items() if kind == record.kind)
    failures: list[BaseException] = []

    class OneEntryPoint(ExtensionManager[Any]):
        """Loads the record's entry point alone, also where another has the same name."""

        def list_entry_points(self) -> list[EntryPoint]:
            return [EntryPoint(record.name, record.value, group)]

    try:
        manager = OneEntryPoint(
            group, on_load_failure_callback=lambda manager, point, error: failures.append(error)
        )
    except (AssertionError, SystemExit) as escaped:  # which stevedore lets through
        failures.append(escaped)
    if failures:
        error = failures[0]
        message = error.what if isinstance(error, DsError) else f"{type(error).__name__}: {error}"
        raise PluginError(
            f"{record.kind} {record.name!r} of {record.distribution} {record.version} cannot be "
            f"imported from {record.value}: {message}.",
            mend=f"Reinstall it, or switch it off: ds plugins disable {record.name}",
        ) from error
    return manager.extensions[0].plugin
