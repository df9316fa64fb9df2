"""What a check is: a test with an id, a reason in one line, and advice for when it fails."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Check(NamedTuple):
    """The identity of a check, found on a test as the attribute `ds_check`."""

    id: str
    reason: str
    advice: str


class CheckFailedError(AssertionError):
    """A check failed; the message says what it found and what the author should do."""


def check(id: str, reason: str, advice: str) -> Callable[[Function], Function]:
    """Make a test method a check.

    Args:
        id: `group.name`, stable across releases.
        reason: Why a component must pass it, in one line.
        advice: What its author should do about a failure.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                found = f"{error}" if type(error) is AssertionError else _named(error)
                raise CheckFailedError(
                    f"{id}: {reason}\n  found: {found or 'the assertion above failed'}\n"
                    f"  to do: {advice}"
                ) from error

        run.ds_check = Check(id, reason, advice)  # type: ignore[attr-defined]
        return run  # type: ignore[return-value]

    return decorate


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
