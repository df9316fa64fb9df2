"""Which step is recorded how."""

from __future__ import annotations

from collections.abc import Sequence

from ds_core.errors import ConfigError, nearest

COLLECTORS = ("time", "lifetimes", "graph")
"""What can be recorded."""

SOURCES, PLAIN, TIME, LIFETIMES = "sources", "plain", "time", "lifetimes"


def checked(collectors: Sequence[str]) -> tuple[str, ...]:
    """Collectors that exist.

    Raises:
        ConfigError: One does not.
    """
    names = (collectors,) if isinstance(collectors, str) else tuple(collectors)
    for name in names:
        if name not in COLLECTORS:
            raise ConfigError(
                f"There is no collector {name!r}.",
                mend=nearest(name, COLLECTORS) or f"Known: {', '.join(COLLECTORS)}.",
            )
    return names


def roles(steps: int, collectors: Sequence[str]) -> list[str]:
    """How each of consecutive steps is recorded.

    No collector is timed under the load of another: each has steps of its own, interleaved with
    plain ones, so that what they cost can be told from how steps change in time. In the first step
    lines of code are looked for.
    """
    measured = [name for name in (TIME, LIFETIMES) if name in collectors]
    rounds = [PLAIN, *measured] * steps if measured else []
    return ([SOURCES] if TIME in collectors else []) + rounds
