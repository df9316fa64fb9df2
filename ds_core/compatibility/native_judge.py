"""What a project's native code meets on a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ds_core.compatibility import cuda_names
from ds_core.compatibility.findings import Coverage, Finding
from ds_core.compatibility.native_scan import NativeScan, Site
from ds_core.components.porting import Porting, Verdict

_EACH = {"inline-ptx", "lane-mask", "warp-size", "device-launch"}
"""Constructs of which every line needs a hand; of others the first in a file tells all."""


class NativeJudge:
    """Judges the files of one project for one target, and counts names over all of them.

    Args:
        scans: What stands in each file, by path.
        target: The backend's name.
        porting: What it says.
    """

    def __init__(self, scans: Mapping[str, NativeScan], target: str, porting: Porting) -> None:
        self._scans = scans
        self._target = target
        self._porting = porting
        self._own = frozenset().union(*(scan.declared for scan in scans.values()))
        self._files = frozenset(path.rpartition("/")[2] for path in scans)
        self._verdicts: dict[str, Verdict] = {}

    def findings(self) -> Iterator[Finding]:
        """All of them, file by file."""
        if self._porting.native is None:
            for path, scan in self._scans.items():
                if scan.first is not None:
                    yield self._absent(path, scan, scan.first)
            return
        for path, scan in self._scans.items():
            yield from self._constructs(path, scan)
            yield from self._names(path, scan)

    def coverage(self) -> Coverage | None:
        """Counts every name and header once; None where there is none or nothing ports."""
        if self._porting.native is None:
            return None
        by_status: dict[str, set[str]] = {"mapped": set(), "identity": set(), "unmapped": set()}
        for scan in self._scans.values():
            for site in self._asked(scan):
                by_status[self._verdict(site.name).status].add(site.name)
        if not any(by_status.values()):
            return None
        return Coverage(**{status: tuple(sorted(names)) for status, names in by_status.items()})

    def _asked(self, scan: NativeScan) -> Iterator[Site]:
        """The names and headers that are CUDA's and that the target's compiler gets to see."""
        for site in (*scan.headers, *scan.names):
            if not site.lives(self._porting.macros):
                continue
            own = site.name in self._own or site.name.rpartition("/")[2] in self._files
            if not (own and self._verdict(site.name).status == "unmapped"):
                yield site

    def _verdict(self, name: str) -> Verdict:
        if name not in self._verdicts:
            assert self._porting.native is not None
            self._verdicts[name] = self._porting.native(name)
        return self._verdicts[name]

    def _names(self, path: str, scan: NativeScan) -> Iterator[Finding]:
        first: dict[str, Site] = {}
        counts: dict[str, int] = {}
        for site in self._asked(scan):
            told = cuda_names.construct(site.name) in self._porting.constructs
            if self._verdict(site.name).status == "unmapped" and not told:
                first.setdefault(site.name, site)
                counts[site.name] = counts.get(site.name, 0) + 1
        for name, site in first.items():
            verdict = self._verdict(name)
            yield Finding(
                rule="native-name",
                level="error",
                what=f"{name} has no counterpart on {self._target}: {verdict.why or 'none known.'}",
                mend=verdict.mend,
                path=path,
                line=site.line,
                column=site.column,
                target=self._target,
                count=counts[name],
            )

    def _constructs(self, path: str, scan: NativeScan) -> Iterator[Finding]:
        kept: dict[tuple[str, int], tuple[Site, int]] = {}
        for site in sorted(scan.constructs, key=lambda site: (site.line, site.column)):
            if site.name not in self._porting.constructs or not site.lives(self._porting.macros):
                continue
            key = (site.name, site.line if site.name in _EACH else 0)
            earlier, count = kept.get(key, (site, 0))
            kept[key] = (earlier, count + 1)
        for site, count in kept.values():
            construct = self._porting.constructs[site.name]
            yield Finding(
                rule=site.name,
                level=construct.level,
                what=construct.why,
                mend=construct.mend,
                path=path,
                line=site.line,
                column=site.column,
                target=self._target,
                count=count,
            )

    def _absent(self, path: str, scan: NativeScan, site: Site) -> Finding:
        kernels = len(scan.kernels)
        of = f"{kernels} kernel{'s' if kernels > 1 else ''}" if kernels else "Code for CUDA"
        return Finding(
            rule="native-code",
            level="error",
            what=f"{of} that {self._target} does not run.",
            mend=self._porting.native_absent,
            path=path,
            line=site.line,
            column=site.column,
            target=self._target,
        )
