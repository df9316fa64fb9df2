"""Which rank sits in which host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ds_core.errors import ConfigError, nearest

Placement = Literal["contiguous", "interleaved"]


@dataclass(frozen=True)
class Seat:
    """One rank's place."""

    rank: int
    host: int
    local_rank: int


def seats(ranks_per_host: Sequence[int], placement: Placement) -> list[Seat]:
    """One seat per rank, in the order of ranks.

    Args:
        ranks_per_host: How many ranks each host takes.
        placement: `"contiguous"` fills host after host, as launchers should; `"interleaved"` deals
            ranks to the hosts in turn, as badly written host files do. Full hosts are left out.

    Raises:
        ConfigError: There is no such placement.
    """
    if placement not in get_args(Placement):
        raise ConfigError(
            f"placement {placement!r} is unknown.",
            mend=nearest(placement, get_args(Placement)) or "Use 'contiguous' or 'interleaved'.",
        )
    places = [(host, local) for host, ranks in enumerate(ranks_per_host) for local in range(ranks)]
    if placement == "interleaved":
        places.sort(key=lambda place: (place[1], place[0]))
    return [Seat(rank, host, local) for rank, (host, local) in enumerate(places)]
