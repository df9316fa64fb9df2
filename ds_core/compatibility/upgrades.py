"""Whether installed versions fit each other, and what to upgrade first where they do not."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import importlib_metadata
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ds_core.compatibility.findings import Finding, Upgrade
from ds_core.registry import CORE, Registry

_RAISES = (">=", ">", "==", "~=", "===")


class Unmet(NamedTuple):
    """A requirement that what is installed does not satisfy."""

    who: str
    version: str
    needs: str
    """Canonical name of a distribution, or `python`."""
    specifier: SpecifierSet
    installed: str | None

    @property
    def sentence(self) -> str:
        """Who needs what, and what is there."""
        there = f"{self.installed} is installed" if self.installed else "it is not installed"
        wish = f"{self.needs}{self.specifier}"
        return f"{self.who} {self.version} needs {wish}, and {there}."

    @property
    def too_old(self) -> bool:
        """Whether a later version of what is needed would do."""
        if self.installed is None:
            return True
        try:
            have = Version(self.installed)
            bounds = [
                Version(s.version.rstrip(".*")) for s in self.specifier if s.operator in _RAISES
            ]
        except InvalidVersion:
            return True
        return any(bound > have for bound in bounds)


def unmet(registry: Registry) -> list[Unmet]:
    """Of ds-core, torch and every distribution that offers something to ds-core."""
    names = {CORE, "torch", *(record.distribution for record in registry.records())}
    return [one for name in sorted(names) for one in _unmet_of(name)]


def upgrade_findings(problems: Sequence[Unmet]) -> Iterator[Finding]:
    """One for each."""
    for problem in problems:
        yield Finding(
            rule="requirement", level="error", what=problem.sentence, mend=f"{_step(problem)[0]}."
        )


def upgrade_plan(problems: Sequence[Unmet], drivers: Sequence[Finding] = ()) -> tuple[Upgrade, ...]:
    """Steps in the order in which to take them: below what others stand on first.

    Drivers come first, then Python, torch, ds-core, what else is needed, and plugins.
    """
    steps = [Upgrade(what=finding.mend, why=finding.what) for finding in drivers if finding.mend]
    plan: dict[str, tuple[int, str]] = {}
    for problem in problems:
        step, subject = _step(problem)
        order = ("python", "torch", CORE)
        rank = order.index(subject) if subject in order else 3 + subject.startswith("ds-")
        plan.setdefault(step, (rank, problem.sentence))
    ordered = sorted(plan.items(), key=lambda item: (item[1][0], item[0]))
    return (*steps, *(Upgrade(what=step, why=why) for step, (_, why) in ordered))


def _step(problem: Unmet) -> tuple[str, str]:
    """What to do, and the distribution that changes by it."""
    wish = f"{problem.needs}{problem.specifier}"
    if problem.needs == "python":
        if problem.too_old:
            return f"Use Python {problem.specifier}", "python"
    elif problem.too_old:
        return f'pip install "{wish}"', problem.needs
    return f"pip install --upgrade {problem.who}", problem.who


def _unmet_of(name: str) -> Iterator[Unmet]:
    found = _distribution(name)
    if found is None:
        return
    version = str(found.version)
    python = found.metadata.get("Requires-Python")
    if python:
        running = platform.python_version()
        specifier = _specifier(python)
        if specifier is not None and not specifier.contains(running, prereleases=True):
            yield Unmet(name, version, "python", specifier, running)
    for line in found.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        needed = _distribution(requirement.name)
        installed = str(needed.version) if needed is not None else None
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            needs = canonicalize_name(requirement.name)
            yield Unmet(name, version, needs, requirement.specifier, installed)


def _distribution(name: str) -> Any:
    try:
        found = importlib_metadata.distribution(name)
        return found if found.version else None
    except (importlib_metadata.PackageNotFoundError, KeyError, OSError, ValueError):
        return None


def _specifier(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return None
