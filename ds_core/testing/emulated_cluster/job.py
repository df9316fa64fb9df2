"""One process per rank, their output, and what crossed the wires meanwhile."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ds_core.testing.emulated_cluster.errors import EmulationError, JobFailed, JobTimeout
from ds_core.testing.emulated_cluster.network import Wire


@dataclass(frozen=True)
class RankResult:
    """What one rank left.

    Attributes:
        rank: Its rank.
        host: The name of its host.
        local_rank: Its rank among those of its host.
        returncode: 0 for success, minus the signal's number where one ended it, None while it runs.
        seconds: From its start to its end, or until now; the interpreter's start is in it.
        stdout: All that it wrote so far.
        stderr: All that it wrote so far.
    """

    rank: int
    host: str
    local_rank: int
    returncode: int | None
    seconds: float
    stdout: str
    stderr: str


@dataclass(frozen=True)
class RunResult:
    """What a job left.

    Attributes:
        ranks: One result per rank, in their order.
        wires: What crossed each host's uplink since the job's start, by the host's name. The
            rendezvous is in it, and whatever else ran in the cluster meanwhile. A rank that wants
            to count a part only reads `/sys/class/net/eth0/statistics/tx_bytes`: all the payload,
            and headers once for each group of frames that the kernel hands over as one.
        seconds: From the first rank's start to the last one's end.
    """

    ranks: tuple[RankResult, ...]
    wires: Mapping[str, Wire]
    seconds: float

    def check(self) -> RunResult:
        """This result.

        Raises:
            JobFailed: A rank did not end with 0. The one that failed first is named.
        """
        failed = [rank for rank in self.ranks if rank.returncode != 0]
        if failed:
            first = min(failed, key=lambda rank: rank.seconds)
            error = JobFailed(
                f"{len(failed)} of {len(self.ranks)} ranks failed, rank {first.rank} on "
                f"{first.host} first, with exit code {first.returncode}; {_last_words(first)}"
            )
            error.result = self
            raise error
        return self


class RunningJob:
    """A job that runs. Made by `EmulatedCluster.start`."""

    def __init__(
        self,
        processes: Sequence[RankProcess],
        wires: Callable[[], Mapping[str, Wire]],
        kill: Callable[[], None],
    ) -> None:
        self._processes = processes
        self._wires = wires
        self._kill = kill
        self._result: RunResult | None = None

    @property
    def ranks(self) -> tuple[RankResult, ...]:
        """What each rank has left so far."""
        if self._result is not None:
            return self._result.ranks
        return tuple(process.result() for process in self._processes)

    def poll(self) -> RunResult | None:
        """The result, or None while a rank runs."""
        if self._result is None and all(process.ended for process in self._processes):
            self._result = self._now()
            for process in self._processes:
                process.close()
        return self._result

    def wait(self, timeout: float) -> RunResult:
        """The result, when every rank has ended.

        Raises:
            JobTimeout: Ranks still run after `timeout` seconds. They go on.
        """
        deadline = time.monotonic() + timeout
        for process in self._processes:
            process.join(deadline - time.monotonic())
        result = self.poll()
        if result is None:
            running = {process.rank for process in self._processes if not process.ended}
            raise self._late(running, f"still ran after {timeout:g} s")
        return result

    def wait_for_output(
        self, text: str, timeout: float, ranks: Iterable[int] | None = None
    ) -> None:
        """Return when each of `ranks` (all, where None) has written `text` to standard output.

        Raises:
            JobTimeout: One had not after `timeout` seconds, or ended without.
        """
        wanted = set(range(len(self._processes)) if ranks is None else ranks)
        deadline = time.monotonic() + timeout
        while True:
            silent = [r for r in self.ranks if r.rank in wanted and text not in r.stdout]
            if not silent:
                return
            if ended := {rank.rank for rank in silent if rank.returncode is not None}:
                raise self._late(ended, f"ended without writing {text!r}")
            if time.monotonic() > deadline:
                late = {rank.rank for rank in silent}
                raise self._late(late, f"had not written {text!r} after {timeout:g} s")
            time.sleep(0.01)

    def kill_ranks(self) -> None:
        """End the ranks' own processes with SIGKILL."""
        for process in self._processes:
            process.kill()

    def kill(self) -> None:
        """End all of its processes with SIGKILL, those too that the ranks started."""
        self._kill()
        self.kill_ranks()

    def _late(self, late: Collection[int], what: str) -> JobTimeout:
        result = self._now()
        ranks = [rank for rank in result.ranks if rank.rank in late]
        names = ", ".join(f"{rank.rank} ({rank.host})" for rank in ranks)
        error = JobTimeout(f"Rank {names} {what}; {_last_words(ranks[0])}")
        error.result = result
        return error

    def _now(self) -> RunResult:
        ranks = self.ranks
        return RunResult(ranks, self._wires(), max(rank.seconds for rank in ranks))


class RankProcess:
    """The process of one rank. Its output goes to files without a name: nothing stays behind."""

    def __init__(
        self,
        rank: int,
        host: str,
        local_rank: int,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str | None,
    ) -> None:
        self.rank = rank
        self._host = host
        self._local_rank = local_rank
        self._out = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._started = time.monotonic()
        self._seconds: float | None = None
        try:
            self._process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                start_new_session=True,
            )
        except OSError as error:
            raise EmulationError(f"Rank {rank} on {host} could not be started: {error}.") from error
        # A thread of its own, so that the time of its end is not that of the next look at it.
        self._waiter = threading.Thread(target=self._wait, name=f"rank {rank}", daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        self._process.wait()
        self._seconds = time.monotonic() - self._started

    @property
    def ended(self) -> bool:
        """Whether it ended."""
        return self._seconds is not None

    def join(self, timeout: float) -> None:
        """Wait for its end, `timeout` seconds at most."""
        self._waiter.join(max(timeout, 0))

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.kill()
        self.join(10)

    def close(self) -> None:
        """Let its output go. `result` must not be asked for any more."""
        self._out.close()
        self._err.close()

    def result(self) -> RankResult:
        """What it left so far."""
        seconds = self._seconds
        return RankResult(
            rank=self.rank,
            host=self._host,
            local_rank=self._local_rank,
            returncode=None if seconds is None else self._process.returncode,
            seconds=time.monotonic() - self._started if seconds is None else seconds,
            stdout=_read(self._out.fileno()),
            stderr=_read(self._err.fileno()),
        )


def _read(file: int) -> str:
    # Not by seeking: the rank writes at the same offset.
    return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")


def _last_words(rank: RankResult) -> str:
    lines = rank.stderr.strip().splitlines()[-20:]
    said = ":\n" + "\n".join(lines) if lines else " nothing."
    return f"rank {rank.rank} wrote to stderr{said}"
