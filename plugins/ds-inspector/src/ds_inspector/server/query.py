"""What a request asks for, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ds_core.errors import ConfigError


class Query:
    """The parameters of a request.

    Args:
        given: As they came; what is not read is refused by `done`.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)

    def text(self, name: str, longest: int = 4096) -> str:
        value = self._given.pop(name, "")
        if len(value) > longest:
            raise ConfigError(f"{name} is longer than {longest} characters.")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of them; the first where it is not given."""
        value = self._given.pop(name, choices[0])
        if value not in choices:
            raise ConfigError(f"{name} is {value!r}, not one of {', '.join(choices)}.")
        return value

    def integer(self, name: str, below: int, default: int = 0) -> int:
        value = self._given.pop(name, str(default))
        if not (value.isascii() and value.isdigit() and int(value[:9]) < below):
            raise ConfigError(f"{name} is {value[:20]!r}, not a number from 0 to {below - 1}.")
        return int(value)

    def optional(self, name: str, below: int) -> int | None:
        """A number; None where it is not given or `all`."""
        if self._given.get(name, "all") in ("", "all"):
            self._given.pop(name, None)
            return None
        return self.integer(name, below)

    def number(self, name: str) -> float | None:
        value = self._given.pop(name, "")
        try:
            number = float(value) if value else None
        except ValueError:
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise ConfigError(f"{name} is {value[:20]!r}, not a number.")
        return number

    def flag(self, name: str) -> bool:
        return self.choice(name, ("0", "1")) == "1"

    def done(self) -> None:
        """Refuse whatever was not read."""
        if self._given:
            raise ConfigError(f"Nothing is known as {sorted(self._given)[0][:40]!r} here.")
