"""The emulated cluster as its users see it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from ds_core.errors import ConfigError, UnknownNameError, nearest
from ds_core.testing.emulated_cluster import guard
from ds_core.testing.emulated_cluster.errors import (
    EmulationError,
    EmulationUnavailable,
    JobTimeout,
)
from ds_core.testing.emulated_cluster.job import RankProcess, RunningJob, RunResult
from ds_core.testing.emulated_cluster.network import (
    Network,
    Wire,
    remove_leftovers,
    unavailable_reason,
)
from ds_core.testing.emulated_cluster.rates import bits_per_second
from ds_core.testing.emulated_cluster.removal import kill_inside
from ds_core.testing.emulated_cluster.seats import Placement, Seat, seats

_MOST_HOSTS = 250
_JOB = "DS_EMULATED_JOB"
_FIRST_PORT = 29500


class EmulatedCluster:
    """Hosts on this machine, joined by wires of a fixed rate, that run one process per rank.

    A context manager: inside it the cluster exists; afterwards, whatever happened, its processes
    are dead and its namespaces are gone. What a killed owner left is removed by the next cluster.

        with EmulatedCluster(hosts=4, ranks_per_host=2, rate="200mbit") as cluster:
            result = cluster.run([sys.executable, "train.py"], timeout=60).check()
            print(result.wires["host0"].sent)

    Hosts are called `host0`, `host1`, ...; each has the interface `eth0` and the loopback, over
    which ranks of one host meet: that traffic is neither limited nor counted.

    Args:
        hosts: How many; may be left out where `ranks_per_host` is a list.
        ranks_per_host: One number for all, or one for each host.
        rate: Of each wire in each direction: `"200mbit"`, `"1gbit"`, bits a second, or None for no
            limit. The rate covers Ethernet frames; at an MTU of 9000, 0.7% of them is headers.
            After a silence, what passes at once is a millisecond's worth, or four frames where
            that is more.
        mtu: Bytes of an IP packet at most.

    Raises:
        ConfigError: A number cannot be.
    """

    def __init__(
        self,
        hosts: int | None = None,
        ranks_per_host: int | Sequence[int] = 1,
        rate: str | int | None = None,
        mtu: int = 9000,
    ) -> None:
        self.ranks_per_host = _ranks_per_host(hosts, ranks_per_host)
        self.hosts = [f"host{number}" for number in range(len(self.ranks_per_host))]
        self.rate = None if rate is None else bits_per_second(rate)
        if not 576 <= mtu <= 65000:
            raise ConfigError(
                f"mtu {mtu} is no size of a packet.", mend="Give 576 to 65000 bytes, such as 9000."
            )
        self.mtu = mtu
        self._network: Network | None = None
        self._owner = 0
        self._jobs: list[RunningJob] = []
        self._started = 0

    def __enter__(self) -> Self:
        """Make the hosts.

        Raises:
            EmulationUnavailable: This machine or user cannot; the reason is in it.
            EmulationError: The cluster is open already.
        """
        if reason := unavailable_reason():
            raise EmulationUnavailable(reason)
        if self._network is not None:
            raise EmulationError("This cluster is open already.", mend="Make another one.")
        remove_leftovers()
        self._owner = os.getpid()
        self._network = Network(self.hosts, self.rate, self.mtu)
        guard.watch(self.close)
        try:
            self._network.build()
        except EmulationError as error:
            self.close()
            raise EmulationUnavailable(error.what) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all ranks and remove the hosts. Without effect where there are none."""
        # A fork of the owner has this object too, and no right to end what is not its own.
        if self._network is None or os.getpid() != self._owner:
            return
        for job in self._jobs:
            job.kill_ranks()
            with contextlib.suppress(EmulationError):  # the counters go: what is the last count?
                job.poll()
        self._network.remove()
        self._network = None
        self._jobs = []
        guard.unwatch(self.close)

    @property
    def world_size(self) -> int:
        """Ranks in all hosts."""
        return sum(self.ranks_per_host)

    def address(self, host: str) -> str:
        """The IPv4 address of a host on the wire."""
        return self._opened(host).addresses[host]

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace, for `ip netns exec`."""
        return self._opened(host).namespaces[host]

    def wires(self) -> Mapping[str, Wire]:
        """What crossed each host's wire since the cluster was made, by the host's name."""
        return self._opened().wires()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str | None] | None = None,
        placement: Placement = "contiguous",
        cwd: str | None = None,
    ) -> RunResult:
        """Run a command once per rank and wait for all. See `start` for its arguments.

        Args:
            argv: The command.
            timeout: Seconds.
            env: Variables beside those of `start`.
            placement: Which ranks share a host.
            cwd: Where it runs.

        Raises:
            JobTimeout: Ranks still ran after `timeout` seconds. They were killed.
        """
        job = self.start(argv, env=env, placement=placement, cwd=cwd)
        try:
            return job.wait(timeout)
        except JobTimeout:
            job.kill()
            raise

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        placement: Placement = "contiguous",
        cwd: str | None = None,
    ) -> RunningJob:
        """Start a command once per rank, and return while they run.

        Each gets what torchrun sets (RANK, LOCAL_RANK, GROUP_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE,
        MASTER_ADDR, MASTER_PORT, and OMP_NUM_THREADS=1 unless it is set), DS_NODE with the host's
        name, and the interface to use in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME. To run torchrun
        itself, take one rank per host and give it `--node-rank` from GROUP_RANK.

        Args:
            argv: The command; no shell reads it.
            env: Variables that override those above and the environment; None removes one.
            placement: `"contiguous"` gives a host neighbouring ranks, `"interleaved"` deals them
                out in turn.
            cwd: The folder that it runs in; the current one where None.

        Raises:
            ConfigError: There is no such command or placement.
            EmulationError: The cluster is not open, or a process could not be started.
        """
        network = self._opened()
        if not argv or shutil.which(argv[0]) is None:
            raise ConfigError(
                f"No command {argv[0] if argv else ''!r} was found.",
                mend="Give its full path, such as sys.executable.",
            )
        places = seats(self.ranks_per_host, placement)
        number = self._started
        self._started += 1
        marker = f"{network.namespaces[self.hosts[0]]}-{number}"
        before = network.wires()
        processes: list[RankProcess] = []
        job = RunningJob(
            processes,
            wires=lambda: {host: now - before[host] for host, now in network.wires().items()},
            kill=functools.partial(
                kill_inside, list(network.namespaces.values()), f"{_JOB}={marker}"
            ),
        )
        self._jobs = [*(old for old in self._jobs if old.poll() is None), job]
        # Another port for each job: the last one's may still be held by its connections.
        shared = os.environ | {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "MASTER_PORT": str(_FIRST_PORT + number % 1000),
            _JOB: marker,
        }
        try:
            for seat in places:
                host = self.hosts[seat.host]
                variables = shared | self._variables(seat, places[0]) | dict(env or {})
                processes.append(
                    RankProcess(
                        seat.rank,
                        host,
                        seat.local_rank,
                        [*network.inside(host), *argv],
                        {name: value for name, value in variables.items() if value is not None},
                        cwd,
                    )
                )
        except BaseException:
            job.kill()
            raise
        return job

    def _variables(self, seat: Seat, first: Seat) -> dict[str, str | None]:
        return {
            "RANK": str(seat.rank),
            "LOCAL_RANK": str(seat.local_rank),
            "GROUP_RANK": str(seat.host),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_WORLD_SIZE": str(self.ranks_per_host[seat.host]),
            "MASTER_ADDR": self.address(self.hosts[first.host]),
            "DS_NODE": self.hosts[seat.host],
            "GLOO_SOCKET_IFNAME": "eth0",
            "NCCL_SOCKET_IFNAME": "eth0",
        }

    def cut(self, host: str) -> None:
        """Let the switch drop everything from and to a host.

        Silently: its link stays up and no connection is reset, as when a cable is pulled two
        switches away. What the host sends is still counted.

        Raises:
            UnknownNameError: There is no such host.
        """
        self._opened(host).forward(host, enabled=False)

    def restore(self, host: str) -> None:
        """Undo `cut`; connections that did not give up meanwhile go on.

        Raises:
            UnknownNameError: There is no such host.
        """
        self._opened(host).forward(host, enabled=True)

    def kill(self, host: str) -> None:
        """End every process of a host with SIGKILL. Its kernel lives on and resets connections.

        To lose a host without a word, `cut` it first.

        Raises:
            UnknownNameError: There is no such host.
        """
        kill_inside([self._opened(host).namespaces[host]])

    def _opened(self, host: str | None = None) -> Network:
        if self._network is None:
            raise EmulationError(
                "This cluster is not open.", mend="Use it inside `with EmulatedCluster(...)`."
            )
        if host is not None and host not in self.hosts:
            raise UnknownNameError(
                f"No host is called {host!r}.",
                mend=nearest(host, self.hosts) or f"There are {', '.join(self.hosts)}.",
            )
        return self._network


def _ranks_per_host(hosts: int | None, ranks: int | Sequence[int]) -> list[int]:
    counts = [ranks] * (1 if hosts is None else hosts) if isinstance(ranks, int) else list(ranks)
    if hosts is not None and len(counts) != hosts:
        raise ConfigError(
            f"ranks_per_host names {len(counts)} hosts where hosts is {hosts}.",
            mend="Give one number of ranks for each host, or leave `hosts` out.",
        )
    if not 1 <= len(counts) <= _MOST_HOSTS or min(counts) < 1:
        raise ConfigError(
            f"A cluster of {counts} ranks per host cannot be.",
            mend=f"Give 1 to {_MOST_HOSTS} hosts with at least one rank each.",
        )
    return counts
