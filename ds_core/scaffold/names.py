"""What a new plugin and its parts are called, and whether those names are free."""

from __future__ import annotations

import contextlib
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

import importlib_metadata
from packaging.utils import canonicalize_name
from packaging.version import Version

from ds_core import __version__
from ds_core.commands import COMMANDS
from ds_core.errors import ConfigError
from ds_core.registry import CORE, GROUPS, Registry

SUMMARIES = {
    "backend": "The host's processor as a backend of its own",
    "precision": "bfloat16 with float32 islands",
    "pruner": "One-shot weight pruning while training",
    "topology": "Gradients averaged over all ranks before each step",
    "observer": "A log of gradient norms",
    "transform": "Dropout removed for inference",
    "command": "Counts what is installed",
}
"""By kind, one line about the component that a new plugin starts with."""

RESERVED = ("auto", "best", "none")
"""Words that settings take in place of a component's name."""


@dataclass(frozen=True)
class Names:
    """Everything that the templates are told."""

    kind: str
    distribution: str
    """What users give `pip install`, and the name of the folder."""
    component: str
    """What users type."""

    @property
    def package(self) -> str:
        """What users import."""
        return self.distribution.replace("-", "_")

    @property
    def camel(self) -> str:
        """The component's name as classes are named."""
        return "".join(part.capitalize() for part in self.component.split("-"))

    @property
    def attribute(self) -> str:
        """What the entry point names in its module: a class, or a command's function."""
        if self.kind == "command":
            return "main"
        ending = self.kind.capitalize()
        # Whole already, as `HelloObserver` is; but `Observer` alone is the base class.
        whole = self.camel.endswith(ending) and self.camel != ending
        return self.camel if whole else self.camel + ending

    def values(self) -> dict[str, str]:
        """What stands in the templates behind `$`."""
        return {
            "kind": self.kind,
            "distribution": self.distribution,
            "component": self.component,
            "package": self.package,
            "Component": self.camel,
            "attribute": self.attribute,
            "group": next(group for group, kind in GROUPS.items() if kind == self.kind),
            "summary": SUMMARIES[self.kind],
            "requirement": requirement(__version__),
        }


def requirement(version: str) -> str:
    """The requirement of a plugin written for this version of ds-core.

    Before 1.0 the second number is the one whose change may break plugins.

    >>> requirement("0.1.3")
    'ds-core>=0.1,<0.2'
    >>> requirement("2.4.0")
    'ds-core>=2.4,<3'
    """
    running = Version(version)
    lowest = str(running) if running.is_prerelease else f"{running.major}.{running.minor}"
    below = f"{running.major + 1}" if running.major else f"0.{running.minor + 1}"
    return f"{CORE}>={lowest},<{below}"


def choose(registry: Registry, kind: str, distribution: str, component: str | None = None) -> Names:
    """The names of a new plugin, checked against what is installed here.

    Args:
        registry: What is installed.
        kind: Of the component.
        distribution: What the plugin is to be called.
        component: What users are to type; the distribution's name without `ds-` unless given.

    Raises:
        ConfigError: A name is not valid, or is taken; says by whom and what to do.
    """
    names = Names(
        kind,
        _spelt(distribution, "A distribution's name"),
        _spelt(
            component if component is not None else distribution.removeprefix("ds-"),
            "A component's name",
        ),
    )
    _check_distribution(names)
    _check_component(names, registry)
    return names


def _spelt(name: str, what: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        return name
    better = canonicalize_name(re.sub(r"[^\w.-]+", "-", name)).strip("-")
    fits = re.fullmatch(r"[a-z][a-z0-9-]*", better)
    raise ConfigError(
        f"{what} has lower-case letters, digits and single hyphens, and begins with a letter; "
        f"{name!r} does not.",
        mend=f"Try {better!r}." if fits else "For example 'ds-hello'.",
    )


def _check_distribution(names: Names) -> None:
    name = names.distribution
    with contextlib.suppress(importlib_metadata.PackageNotFoundError):
        raise ConfigError(
            f"A distribution {name!r} is installed here already, in version "
            f"{importlib_metadata.version(name)}.",
            mend="Choose another name, or uninstall it first.",
        )
    package = names.package
    if keyword.iskeyword(package) or package in sys.stdlib_module_names:
        raise ConfigError(
            f"The package of {name!r} would be called {package!r}, which is Python's own.",
            mend=f"Choose another name, for example 'ds-{name}'.",
        )
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a module without a spec
        return
    if spec is not None and spec.origin is not None:
        raise ConfigError(
            f"The package of {name!r} would be called {package!r}, and {spec.origin} is imported "
            "under that name.",
            mend="Choose another name.",
        )


def _check_component(names: Names, registry: Registry) -> None:
    mend = "Choose another with --component."
    kind, name = names.kind, names.component
    if name in RESERVED:
        raise ConfigError(f"No {kind} can be called {name!r}: settings use that word.", mend=mend)
    if kind == "command" and name in COMMANDS:
        raise ConfigError(f"`ds {name}` is a command of ds itself.", mend=mend)
    for record in registry.records(kind):
        if record.name == name:
            raise ConfigError(
                f"{record.distribution} {record.version} has {kind} {name!r} already.", mend=mend
            )
