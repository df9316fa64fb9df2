"""A distribution's requirement on ds-core, as its metadata states it."""

from __future__ import annotations

import re
from functools import cache


def is_on_core(requirement: str) -> bool:
    """Whether a `Requires-Dist` line is about ds-core itself, for everyone who installs."""
    named = re.match(r"ds[-_.]+core(?![-_.]*\w)", requirement, re.IGNORECASE)
    return named is not None and not re.search(r"\bextra\s*==", requirement)


@cache
def is_met(requirement: str) -> bool:
    """Whether the ds-core that is running satisfies it; one that cannot be read is not met."""
    # Not packaging.requirements, whose import would be a tenth of the time of a listing.
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from ds_core import __version__

    constraint, _, condition = requirement.partition(";")
    if condition.strip() and not _applies(condition):
        return True
    versions = re.sub(r"^\s*[\w.-]+\s*(\[[^\]]*\])?", "", constraint).strip()
    if versions.startswith("@"):  # an address, which says nothing about versions
        return True
    try:
        return SpecifierSet(versions.strip("()")).contains(__version__, prereleases=True)
    except InvalidSpecifier:
        return False


def _applies(condition: str) -> bool:
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(condition).evaluate()
    except InvalidMarker:
        return True
