"""Finding the most that can be proved, with few proofs.

Everything is tried at once. Where that fails, other meanings of attributes are tried, then groups
apart: those of one family (the same layers of repeated blocks) together, and halves of what fails,
down to single groups.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Generic, TypeVar

from ds_prune.surgery.removal import KEEP, Choice

Made = TypeVar("Made")

_TRIES = 12
"""Other meanings that are tried for one group of a family; half as many for all groups at once."""
_ENOUGH = 3
"""Groups of one family that fail before the others are believed to."""


@dataclass(frozen=True)
class Attempt(Generic[Made]):
    """What came of one proof.

    Attributes:
        made: What was proved; None if that failed.
        against: What speaks against it.
        kinds: Attributes that were guessed, with the number of options that each has.
        sure: Those among them whose names leave little doubt.
    """

    made: Made | None
    against: str = ""
    kinds: Mapping[str, int] = field(default_factory=dict)
    sure: Collection[str] = ()


class Narrowing(Generic[Made]):
    """One search.

    Args:
        attempt: Proves what can be done with groups of these names, and these choices.
        family: The family of each group.
        budget: How many attempts may be made.

    Attributes:
        good: Groups that were proved together.
        made: The last that was proved.
        left: Why each other group was left.
        attempts: How many were made.
    """

    def __init__(
        self,
        attempt: Callable[[Sequence[str], Choice], Attempt[Made]],
        family: Mapping[str, str],
        budget: int,
    ) -> None:
        self._attempt = attempt
        self._family = family
        self._budget = budget
        self._choice: Choice = {}
        self._failed: dict[str, list[str]] = {}
        self._proved: set[str] = set()
        self.good: tuple[str, ...] = ()
        self.made: Made | None = None
        self.left: dict[str, str] = {}
        self.attempts = 0

    def run(self) -> None:
        """Prove as much as can be."""
        names = tuple(self._family)
        if not names or self._extend(names):
            return
        families: dict[str, list[str]] = {}
        for name in names:
            families.setdefault(self._family[name], []).append(name)
        for members in families.values():
            self._narrow(tuple(members), failed=len(families) == 1)

    def _narrow(self, names: tuple[str, ...], *, failed: bool = False) -> None:
        family = self._family[names[0]]
        culprits = self._failed.setdefault(family, [])
        if self.attempts >= self._budget:
            for name in names:
                self.left.setdefault(name, f"it was not tried in {self._budget} proofs")
            return
        if len(culprits) >= _ENOUGH and family not in self._proved:
            for name in names:
                self.left[name] = (
                    f"{self.left[culprits[0]]} without {culprits[0]!r}, which it is like"
                )
            return
        if not failed and self._extend(names):
            self._proved.add(family)
            for name in names:
                self.left.pop(name, None)
        elif len(names) == 1:
            culprits.append(names[0])
        else:
            middle = len(names) // 2
            self._narrow(names[:middle])
            self._narrow(names[middle:])

    def _extend(self, names: tuple[str, ...]) -> bool:
        """Whether these can go besides what was proved already."""
        first = self._try(names, self._choice)
        if first.made is not None:
            return True
        if len(names) == 1:
            self.left[names[0]] = first.against
        for choice in islice(_others(self._choice, first), self._tries(names)):
            if self.attempts >= self._budget:
                break
            if self._try(names, choice).made is not None:
                self._choice = choice
                self.left.pop(names[0], None)
                return True
        return False

    def _tries(self, names: tuple[str, ...]) -> int:
        if len(names) == 1:
            return 0 if self._failed.get(self._family[names[0]]) else _TRIES
        return _TRIES // 2 if len(names) == len(self._family) else 0

    def _try(self, names: tuple[str, ...], choice: Choice) -> Attempt[Made]:
        self.attempts += 1
        wanted = {*self.good, *names}
        together = tuple(name for name in self._family if name in wanted)
        attempt = self._attempt(together, choice)
        if attempt.made is not None:
            self.good, self.made = together, attempt.made
        return attempt


def _others(choice: Choice, attempt: Attempt[Made]) -> Iterator[Choice]:
    """Other choices: without guesses, or all but the likeliest of them, then the nearest ones."""
    kinds = attempt.kinds
    for spared in (set(attempt.sure), set[str]()):
        if kinds.keys() - spared:
            yield {**choice, **dict.fromkeys(kinds.keys() - spared, KEEP)}
    flips = [
        (kind, option)
        for kind, count in kinds.items()
        for option in range(count)
        if option != choice.get(kind, 0)
    ]
    for number in (1, 2):
        for several in combinations(flips, number):
            if len({kind for kind, _ in several}) == number:
                yield {**choice, **dict(several)}
