"""What a benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ds_core.errors import ConfigError, nearest

VARIANTS = {
    "flat": "gloo's ring over all ranks, host by host",
    "interleaved": "gloo's ring over ranks dealt from the hosts in turn",
    "hierarchical": "two levels, exact between hosts",
    "hierarchical-bfloat16": "two levels, bfloat16 between hosts",
    "hierarchical-int8": "two levels, int8 between hosts",
    "chosen": "what is fastest of flat and hierarchical at each size, by the plugin's calibration",
    "parameter-server": "the first rank receives all tensors and sends their sum",
}
"""The algorithms that can be timed."""


@dataclass(frozen=True)
class Options:
    """What is measured, and how long it may take."""

    sizes: tuple[int, ...]
    """Bytes."""
    variants: tuple[str, ...]
    """Keys of `VARIANTS`."""
    rounds: int = 7
    budget: float = 5.0
    """Seconds for each variant at each size."""
    rate: float | None = None
    """Bytes a second of each uplink; measured where None."""
    emulated: bool = False
    timeout: float = 300.0
    """Seconds that a collective may take."""


def variants_named(text: str) -> tuple[str, ...]:
    """Those of a list with commas between them.

    Raises:
        ConfigError: One of them does not exist.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in VARIANTS:
            raise ConfigError(
                f"There is no variant {name!r}.",
                mend=nearest(name, VARIANTS) or f"There are {', '.join(VARIANTS)}.",
            )
    return names
