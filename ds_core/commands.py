"""The commands of `ds` itself: where each is and what it does, known without importing any."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command of `ds`."""

    where: str
    """As `module:attribute`."""
    summary: str


COMMANDS = {
    "backends": Command(
        "ds_core.cli.backends:backends", "Show which hardware is usable here, and why."
    ),
    "check-compatibility": Command(
        "ds_core.cli.check_compatibility:check_compatibility",
        "Check whether a machine and a project fit a target.",
    ),
    "config": Command("ds_core.cli.config:config", "Show settings and where they come from."),
    "demo": Command("ds_core.cli.demo:demo", "Train a small model, plain and with passes."),
    "explain": Command(
        "ds_core.cli.explain:explain", "Show what a session would use here, and why."
    ),
    "plugins": Command("ds_core.cli.plugins:plugins", "List, inspect and switch plugins."),
    "version": Command("ds_core.cli.version:version", "Show versions of all that takes part."),
}
