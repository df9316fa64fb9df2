"""Functions as the ranks of an emulated cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ds_core.testing.emulated_cluster import EmulatedCluster as Hosts
from ds_core.testing.emulated_cluster import unavailable_reason
from ds_core.testing.emulated_cluster.rates import bits_per_second
from ds_core.testing.emulated_cluster.seats import Placement, seats
from ds_nccl_ring.emulated_cluster.ranks import Place, Running

T = TypeVar("T")

INTERFACE = "eth0"
"""A host's uplink, as the host calls it."""

_FIRST_PORT = 29500


class EmulatedCluster:
    """Hosts on this machine, joined by uplinks of a fixed rate, that call a function in each rank.

    The hosts are those of `ds_core.testing`; a rank is forked from this process, which imported
    torch already. Ranks die with the process that forked them.

        with EmulatedCluster(4, 2, "200mbit") as cluster:
            results = cluster.run(job, timeout=60)

    Args:
        hosts: How many.
        ranks: On each host, or of each host.
        rate: Of each uplink in each direction.
        interleaved: Deal ranks to the hosts in turn, as a launcher that ignores hosts does.
    """

    def __init__(
        self,
        hosts: int,
        ranks: int | Sequence[int],
        rate: str = "1gbit",
        *,
        interleaved: bool = False,
    ) -> None:
        self._hosts = Hosts(hosts, ranks, rate)
        placement: Placement = "interleaved" if interleaved else "contiguous"
        self._seats = seats(self._hosts.ranks_per_host, placement)
        self._running: list[Running[Any]] = []
        self._sent: dict[str, int] = {}
        self._starts = 0
        self.rate = bits_per_second(rate) / 8
        """Bytes a second of each uplink."""
        self.hosts = tuple(self._hosts.hosts)
        """Their names, which the ranks have as DS_NODE."""
        self.placement = [self.hosts[seat.host] for seat in self._seats]
        """The host of each rank."""

    @staticmethod
    def missing() -> str | None:
        """Why no cluster can be emulated here, in a sentence; None where one can."""
        return unavailable_reason()

    def __enter__(self) -> EmulatedCluster:
        """Make the hosts.

        Raises:
            EmulationUnavailable: This machine or user cannot.
        """
        self._hosts.__enter__()
        self._sent = self._counts()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for running in self._running:
            running.close()
        self._hosts.close()

    def run(self, function: Callable[..., T], *arguments: Any, timeout: float) -> list[T]:
        """Call the function in every rank; return what it returned, in the ranks' order.

        Ranks have torchrun's variables, DS_NODE and GLOO_SOCKET_IFNAME in their environment.

        Raises:
            RankError: As `Running.results` does.
        """
        return self.start(function, *arguments).results(timeout)

    def start(self, function: Callable[..., T], *arguments: Any) -> Running[T]:
        """As `run`, without waiting for the ranks. `bytes_sent` counts from here."""
        self._starts += 1
        self._sent = self._counts()
        places = [
            Place(self.placement[rank], self._namespace(rank), self._environment(rank))
            for rank in range(len(self._seats))
        ]
        running = Running(places, function, arguments)
        self._running.append(running)
        return running

    def bytes_sent(self) -> dict[str, int]:
        """What each host has sent over its uplink since the last start, with all headers."""
        return {host: now - self._sent[host] for host, now in self._counts().items()}

    def cut(self, host: str) -> None:
        """Let whatever a host sends or is sent vanish; no connection is reset."""
        self._hosts.cut(host)

    def restore(self, host: str) -> None:
        """Connect a host again that was cut off."""
        self._hosts.restore(host)

    def _counts(self) -> dict[str, int]:
        return {host: wire.sent for host, wire in self._hosts.wires().items()}

    def _namespace(self, rank: int) -> str:
        return self._hosts.namespace(self.placement[rank])

    def _environment(self, rank: int) -> dict[str, str]:
        seat = self._seats[rank]
        told = {
            "RANK": rank,
            "LOCAL_RANK": seat.local_rank,
            "GROUP_RANK": seat.host,
            "WORLD_SIZE": len(self._seats),
            "LOCAL_WORLD_SIZE": self._hosts.ranks_per_host[seat.host],
            "MASTER_ADDR": self._hosts.address(self.placement[0]),
            # Another port for each job: the last one's may still be held by its connections.
            "MASTER_PORT": _FIRST_PORT + self._starts % 1000,
            "DS_NODE": self.placement[rank],
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "OMP_NUM_THREADS": 1,
        }
        return {name: str(value) for name, value in told.items()}
