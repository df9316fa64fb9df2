"""Ranks as forked processes, their results, and their ends."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar

from ds_core.errors import DsError
from ds_core.testing.emulated_cluster.removal import NAMESPACES

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


class RankError(DsError):
    """A rank of an emulated cluster raised, died or did not finish in time."""

    ranks: tuple[int, ...] = ()
    """Those that did."""


@dataclass(frozen=True)
class Place:
    """Where a rank runs: its host, the host's network namespace, and what the rank is told."""

    host: str
    namespace: str
    environment: Mapping[str, str]


class Running(Generic[T]):
    """Ranks at work on a function, each in a process."""

    def __init__(
        self, places: Sequence[Place], function: Callable[..., T], arguments: Sequence[Any]
    ) -> None:
        context = multiprocessing.get_context("fork")  # torch is imported once, and closures work
        self._places = places
        self._pipes: list[Connection] = []
        self._processes: list[ForkProcess] = []
        self._killed: set[int] = set()
        for place in places:
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work,
                args=(place, os.getpid(), theirs, (mine, *self._pipes), function, arguments),
                name=f"rank {place.environment['RANK']}",
            )
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)

    def results(self, timeout: float) -> list[T]:
        """What the function returned in each rank, in order, without ranks that were killed.

        Raises:
            RankError: A rank raised or died, or some have not finished after `timeout` seconds;
                these show on stderr where they stand. The others are killed.
        """
        answers: dict[int, T] = {}
        deadline = time.monotonic() + timeout
        try:
            # A killed one may have answered before, or not.
            waiting = set(range(len(self._places)))
            while waiting:
                pipes = [self._pipes[rank] for rank in waiting]
                ready = wait(pipes, max(deadline - time.monotonic(), 0))
                if not ready:
                    raise self._late(sorted(waiting), timeout)
                for rank in [rank for rank in sorted(waiting) if self._pipes[rank] in ready]:
                    waiting.remove(rank)
                    answers |= self._answer(rank)
            for process in self._processes:
                process.join(max(deadline - time.monotonic(), 0))
            if late := [rank for rank, code in enumerate(self.exit_codes()) if code is None]:
                raise self._late(late, timeout)
        finally:
            self.close()
        return [answers[rank] for rank in sorted(answers.keys() - self._killed)]

    def kill(self, rank: int) -> None:
        """End a rank at once, with SIGKILL."""
        self._killed.add(rank)
        self._processes[rank].kill()

    def kill_host(self, host: str) -> None:
        """End all ranks of a host at once."""
        for rank, place in enumerate(self._places):
            if place.host == host:
                self.kill(rank)

    def exit_codes(self) -> list[int | None]:
        """Of each rank: None while it runs, minus the signal's number if one ended it."""
        return [process.exitcode for process in self._processes]

    def close(self) -> None:
        """Kill what still runs; idempotent."""
        for process in self._processes:
            if process.exitcode is None:
                process.kill()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join()
            pipe.close()

    def _answer(self, rank: int) -> dict[int, T]:
        try:
            succeeded, value, text = pickle.loads(self._pipes[rank].recv_bytes())
        except (EOFError, OSError):
            if rank in self._killed:
                return {}
            self._processes[rank].join()
            code = self._processes[rank].exitcode
            how = f"by {signal.Signals(-code).name}" if code and code < 0 else f"with code {code}"
            raise self._error(f"ended {how} before it returned.", rank) from None
        if not succeeded:
            raise self._error(f"raised.\n\n{text}", rank) from value
        return {rank: value}

    def _late(self, ranks: list[int], timeout: float) -> RankError:
        for rank in ranks:
            process = self._processes[rank]
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, signal.SIGUSR1)  # shows where its threads stand
        time.sleep(0.2)
        return self._error(f"did not finish in {timeout:g} s.", *ranks)

    def _error(self, what: str, *ranks: int) -> RankError:
        who = ", ".join(f"{rank} on {self._places[rank].host}" for rank in ranks)
        error = RankError(f"{'Rank' if len(ranks) == 1 else 'Ranks'} {who} {what}")
        error.ranks = ranks
        return error


def _work(
    place: Place,
    parent: int,
    answer: Connection,
    inherited: Sequence[Connection],
    function: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be said
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    faulthandler.register(signal.SIGUSR1, file=2)
    for pipe in inherited:
        pipe.close()
    with (NAMESPACES / place.namespace).open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {place.namespace}")
    os.environ.update(place.environment)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # threads of the parent's pool were not forked
    try:
        told = pickle.dumps((True, function(*arguments), ""))
    except BaseException as error:
        told = _told(error)
    answer.send_bytes(told)
    answer.close()


def _told(error: BaseException) -> bytes:
    text = traceback.format_exc()
    try:
        told = pickle.dumps((False, error, text))
        pickle.loads(told)
    except Exception:  # an exception that does not pickle is told in words alone
        told = pickle.dumps((False, None, text))
    return told
