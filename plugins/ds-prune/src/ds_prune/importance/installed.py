"""Criteria by name: those that come with the plugin, and those that others have installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ds_core.causes import cause
from ds_core.errors import PluginError, UnknownNameError, nearest
from ds_core.switches import Switches
from ds_prune.importance.criterion import Criterion

ENTRY_POINTS = "ds_prune.criteria"
"""The entry-point group: names lead to subclasses of `Criterion`."""

OWN = "ds-prune"

_OWN = {
    "taylor": "ds_prune.importance.taylor:Taylor",
    "magnitude": "ds_prune.importance.magnitude:Magnitude",
    "fpgm": "ds_prune.importance.geometric_median:GeometricMedian",
    "random": "ds_prune.importance.chance:Chance",
}


@dataclass(frozen=True)
class Offer:
    """A criterion that is installed, which was not imported yet.

    Attributes:
        name: What users type.
        distribution: Who brings it.
        version: Of the distribution.
        value: What would be imported, as `module:attribute`.
    """

    name: str
    distribution: str
    version: str
    value: str

    @property
    def full_name(self) -> str:
        """`distribution:name`, which is never ambiguous."""
        return f"{self.distribution}:{self.name}"


def criteria() -> list[Offer]:
    """All that are installed and not switched off, ours first; nothing is imported."""
    from importlib.metadata import entry_points

    switches = Switches.read()
    found: dict[str, Offer] = {}
    for point in entry_points(group=ENTRY_POINTS):
        distribution = point.dist
        name = distribution.name.lower().replace("_", "-") if distribution else "unknown"
        version = distribution.version if distribution else ""
        offer = Offer(point.name, name, version, point.value)
        off = switches.switch(offer.name, name) or switches.unlisted(offer.name, name)
        if not off:
            found.setdefault(offer.full_name, offer)
    own = [Offer(name, OWN, "", value) for name, value in _OWN.items()]
    return own + [found[name] for name in sorted(found)]


def make_criterion(name: str, options: Mapping[str, Any] | None = None) -> Criterion:
    """The criterion that `name` or `distribution:name` stands for.

    A short name that the plugin itself has is always the plugin's own.

    Raises:
        UnknownNameError: Nothing is called that; names near matches.
        PluginError: Several distributions offer it, or the one that does is broken.
        ConfigError: It has no such option, or not such a value of it.
    """
    return _load(_find(name))(**(options or {}))


def _find(name: str) -> Offer:
    offers = criteria()
    found = [offer for offer in offers if name in (offer.name, offer.full_name)]
    if not found:
        names = [offer.name for offer in offers]
        raise UnknownNameError(
            f"There is no criterion {name!r} here.",
            mend=nearest(name, names) or f"Installed: {', '.join(names)}.",
        )
    if len(found) > 1 and found[0].distribution != OWN:
        raise PluginError(
            f"criterion {name!r} is offered by {len(found)} distributions.",
            mend=f"Choose {' or '.join(repr(offer.full_name) for offer in found)}.",
        )
    return found[0]


def _load(offer: Offer) -> type[Criterion]:
    module, _, attribute = offer.value.partition(":")
    try:
        made = getattr(importlib.import_module(module.strip()), attribute.strip())
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"criterion {offer.name!r} of {offer.distribution} {offer.version} cannot be imported "
            f"from {offer.value}: {cause(error)}.",
            mend=f"Reinstall {offer.distribution}, or choose another criterion.",
        ) from error
    if not (isinstance(made, type) and issubclass(made, Criterion)):
        raise PluginError(
            f"{offer.value} of {offer.distribution} is not a criterion.",
            mend="Its author must subclass ds_prune.importance.criterion.Criterion.",
        )
    return made
