"""The device's random numbers, apart from the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Random:
    """The default generator of a device."""

    def __init__(self) -> None:
        self.generator = torch.Generator("cpu").manual_seed(torch.initial_seed())

    def checked(self, given: torch.Generator | None) -> torch.Generator:
        """The device's generator.

        Raises:
            RuntimeError: The caller gave one of his own, which can only be the CPU's.
        """
        if given is not None:
            raise RuntimeError(
                f"A generator of the device was expected, but one for {given.device} was given."
            )
        return self.generator

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Within, the CPU's default generator stands for the device's."""
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)
