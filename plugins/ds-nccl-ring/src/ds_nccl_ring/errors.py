"""What goes wrong in a group while it works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ds_core.errors import DsError

if TYPE_CHECKING:
    from ds_nccl_ring.placement import Placement


class GroupError(DsError):
    """A group cannot do what it was asked for, and no later collective can either."""


class PeerLostError(GroupError):
    """Ranks of the group are gone."""

    ranks: tuple[int, ...] = ()
    """Which, ascending, as far as was known when it was raised."""


class StalledError(GroupError):
    """Nothing moved for as long as the group's timeout."""


class ClosedError(GroupError):
    """The group was closed before the collective was complete."""


def peer_lost(placement: Placement, lost: Mapping[int, str]) -> PeerLostError:
    """The error that names the ranks that are gone, their hosts and why.

    Args:
        placement: Where ranks are.
        lost: Rank to reason, at least one.
    """
    reasons: dict[tuple[str, str], list[int]] = {}
    for rank in sorted(lost):
        reasons.setdefault((placement.host_of(rank).name, lost[rank]), []).append(rank)
    told = [
        f"{'ranks' if len(ranks) > 1 else 'rank'} {', '.join(map(str, ranks))} on host {host} "
        f"{'are' if len(ranks) > 1 else 'is'} gone: {why}"
        for (host, why), ranks in reasons.items()
    ]
    error = PeerLostError("; ".join(told) + ".")
    error.ranks = tuple(sorted(lost))
    return error
