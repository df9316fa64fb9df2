"""Options that several commands share: the settings of a session, and names that complete."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class PluginName(click.types.StringParamType):
    """The name of something installed; completes from metadata alone.

    Args:
        kind: Which to offer; None for all.
        also: Words that may stand in place of a name.
    """

    name = "name"

    def __init__(self, kind: str | None = None, also: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.also = also

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from ds_core.errors import DsError
        from ds_core.registry import installed

        try:
            records = installed().records(self.kind)
        except DsError:
            return []
        # Any may be asked about; what a session is to use must be usable.
        found = {
            record.name: record.summary
            for record in records
            if self.kind is None or record.status == "ok"
        }
        found |= dict.fromkeys(self.also, "")
        return [
            CompletionItem(name, help=found[name])
            for name in sorted(found)
            if name.startswith(incomplete)
        ]


def _assignment(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[list[str], Any]]:
    from ds_core.config import parse_value

    found = []
    for text in values:
        key, equals, value = text.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, as precision.outputs=keep.")
        found.append((path, parse_value(value.strip())))
    return found


_OPTIONS = [
    click.option(
        "--backend", type=PluginName("backend", ("auto",)), help="The hardware; auto by default."
    ),
    click.option(
        "--precision",
        type=PluginName("precision", ("best", "none")),
        help="Which dtype each layer computes in.",
    ),
    click.option(
        "--pruner",
        type=PluginName("pruner", ("best", "none")),
        help="Which weights or channels remain.",
    ),
    click.option(
        "--topology",
        type=PluginName("topology", ("best", "none")),
        help="How gradients travel between ranks.",
    ),
    click.option(
        "--observer",
        "observers",
        type=PluginName("observer"),
        multiple=True,
        help="Who watches; may be repeated.",
    ),
    click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_assignment,
        help="Any other setting, as precision.outputs=keep; may be repeated.",
    ),
]


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The settings of a session as options, handed over as the one argument `settings`."""

    @functools.wraps(function)
    def with_settings(
        assignments: list[tuple[list[str], Any]],
        backend: str | None,
        precision: str | None,
        pruner: str | None,
        topology: str | None,
        observers: tuple[str, ...],
        **others: Any,
    ) -> Any:
        settings: dict[str, Any] = {
            "backend": backend,
            "precision": precision,
            "pruner": pruner,
            "topology": topology,
            "observers": list(observers),
        }
        for path, value in assignments:
            _assign(settings, path, value)
        return function(settings={k: v for k, v in settings.items() if v}, **others)

    wrapped: Callable[..., Any] = with_settings
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _assign(settings: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value at its path; a component's name becomes a mapping once it has options."""
    *folders, last = path
    for key in folders:
        held = settings.get(key)
        if not isinstance(held, dict):
            held = settings[key] = {"name": held} if isinstance(held, str) else {}
        settings = held
    settings[last] = value
