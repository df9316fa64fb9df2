"""Random numbers for stochastic rounding that cost next to nothing and leave torch's alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LENGTH = 1 << 18
"""Numbers in one window, each of 2**16 equally spaced ones four times."""

_MASK = (1 << 64) - 1


class Noise:
    """Windows into one block of numbers in random order, which is made once for each device.

    A window begins at a random place, another one at each draw. The block is a permutation of all
    values, so the number that one element meets is exactly uniform over the draws, and rounding
    with it is unbiased; what is given up is independence between elements whose distance repeats.
    That costs no random number in the hot path, and torch's generators, which a user's dropout
    draws from, are never touched.

    Args:
        seed: The same seed gives the same numbers on every device.

    Attributes:
        seed: As given.
        draws: Windows drawn so far: with the seed, the whole state.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draws = 0
        self._blocks: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def uniform(self, device: torch.device) -> Tensor:
        """`LENGTH` float32 numbers, k / 2**16 for k in 0 ... 2**16 - 1; read only."""
        start = self._draw()
        return self._block(device)[0][start : start + LENGTH]

    def integers(self, device: torch.device) -> Tensor:
        """`LENGTH` int32 numbers in 0 ... 2**16 - 1; read only."""
        start = self._draw()
        return self._block(device)[1][start : start + LENGTH]

    def load(self, seed: int, draws: int) -> None:
        """Go on where another one stood."""
        if seed != self.seed:
            self._blocks = {}
        self.seed, self.draws = seed, draws

    def _draw(self) -> int:
        """A start that depends on the seed and the count alone (splitmix64, Steele et al. 2014)."""
        self.draws += 1
        state = (self.seed + self.draws * 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return (state ^ (state >> 31)) % LENGTH

    def _block(self, device: torch.device) -> tuple[Tensor, Tensor]:
        import torch

        if device not in self._blocks:
            generator = torch.Generator().manual_seed(self.seed)
            order = torch.randperm(LENGTH, generator=generator, device="cpu", dtype=torch.int32)
            numbers = (order >> 2).to(device)
            numbers = torch.cat([numbers, numbers])  # so that every window lies in one piece
            self._blocks[device] = numbers / 65536.0, numbers
        return self._blocks[device]


def add_window(values: Tensor, window: Tensor) -> None:
    """Add `window` to the flat `values` in place, again and again where they are longer."""
    length = window.numel()
    whole = values.numel() // length
    if whole:
        values[: whole * length].view(whole, length).add_(window)
    rest = values[whole * length :]
    rest.add_(window[: rest.numel()])
