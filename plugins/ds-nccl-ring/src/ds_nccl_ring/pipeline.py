"""Chunks on their way into shared memory, over the wire and out again, overlapping."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ds_core.errors import DsError
from ds_nccl_ring.errors import ClosedError, StalledError
from ds_nccl_ring.local.segment import DEPTH
from ds_nccl_ring.local.words import Stage, ring
from ds_nccl_ring.wire.flow import BrokenLinkError, Flow

if TYPE_CHECKING:
    from torch import Tensor
    from torch.futures import Future

    from ds_nccl_ring.collectives import Collective, Site
    from ds_nccl_ring.failure import Failure
    from ds_nccl_ring.local.segment import Segment
    from ds_nccl_ring.local.words import Words
    from ds_nccl_ring.wire.exchange import Exchange

AHEAD = 2
"""Chunks whose contributions are sent before the reduced parts of a chunk."""

LINGER = 2.0
"""Seconds that links stay open after a failure: a closed link shall mean that a rank is gone."""

_LOOK = 1.0
"""Seconds after which a thread that sleeps looks whether something is overdue."""


@dataclass(slots=True)
class _Until:
    """All of the first `ranks` ranks have brought so many chunks to a stage."""

    stage: Stage
    chunks: int
    ranks: int


@dataclass(slots=True)
class _Track:
    """A course of steps, and what the next one waits for; None: for a collective."""

    steps: Iterator[_Until | None]
    queue: deque[Any]
    until: _Until | None = None


class Pipeline:
    """One thread that does whatever can be done next, and sleeps on all that it waits for.

    It is one for all stages because they would only take the interpreter's lock from each other;
    the kernel's buffers keep the wire busy while it copies. Collectives are complete in the order
    in which they were submitted. The contributions to a chunk are sent before the reduced parts of
    the chunk before it, which are thus never waited for.

    Args:
        site: Where this rank is.
        segment: The host's memory.
        words: How far its ranks are.
        bell: This rank's.
        flow: The wire; None for a rank that has no links.
        failure: Ends everything.
        name: What a rank is called in an error.
        suspect: Told the host whose link has ended; sets the failure.
        miss: Told the ranks that have been waited for for a while; may set the failure.
        timeout: Seconds that everything may stand still.
    """

    def __init__(
        self,
        site: Site,
        segment: Segment,
        words: Words,
        bell: int,
        flow: Flow | None,
        failure: Failure,
        name: Callable[[int], str],
        suspect: Callable[[int], None],
        miss: Callable[[set[int]], None],
        timeout: float,
    ) -> None:
        self._site = site
        self._segment = segment
        self._words = words
        self._bell = bell
        self._flow = flow
        self._failure = failure
        self._name = name
        self._suspect = suspect
        self._miss = miss
        self._timeout = timeout
        self._incoming: deque[Collective] = deque()
        self._outgoing: deque[tuple[Collective, int, int]] = deque()
        self._tracks = [
            _Track(self._bring_out(), self._outgoing),
            _Track(self._bring_in(), self._incoming),
        ]
        for track in self._tracks:
            next(track.steps)
        self._pending: dict[Collective, None] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ds-ring", daemon=True)
        self._thread.start()
        failure.on_failure(self._fail)

    def submit(self, collective: Collective) -> Future[Any]:
        """Take a collective; its future completes or fails."""
        self._pending[collective] = None
        self._incoming.append(collective)
        if self._failure.error is not None:
            self._fail()
        else:
            ring(self._bell)
        return collective.future

    def wait(self) -> None:
        """Until all that was submitted is complete; raises what the last one failed by."""
        for collective in list(self._pending)[-1:]:
            collective.future.wait()

    def close(self) -> None:
        """After the failure was set: wait until the thread touches no tensor any more."""
        if threading.current_thread() is not self._thread:
            self._stopped.wait()

    def _fail(self) -> None:
        error = self._failure.error
        assert error is not None
        if not self._stopped.is_set():
            ring(self._bell)
        for collective in list(self._pending):
            self._pending.pop(collective, None)
            collective.fail(error)

    def _run(self) -> None:
        import torch

        try:
            with torch.inference_mode():  # the caller's tensors may be made under it
                self._work()
        except BrokenLinkError as broken:
            self._suspect(broken.host)
            self._failure.set(DsError("A link between hosts broke."))
        except DsError as error:
            self._failure.set(error)
        except Exception as error:
            self._failure.set(DsError(f"A collective failed: {error!r}."))
        self._stopped.set()
        if self._flow is not None:
            if not isinstance(self._failure.error, ClosedError):
                time.sleep(LINGER)
            self._flow.close()

    def _work(self) -> None:
        since = time.monotonic()
        asleep = False
        while self._failure.error is None:
            moved = self._flow is not None and self._flow.move()
            for track in self._tracks:
                moved = self._step(track) or moved
            if moved:
                asleep = False
                continue
            if not asleep:
                since, asleep = time.monotonic(), True
            if not self._sleep() and (awaited := self._awaited()):
                self._miss(awaited)
                if time.monotonic() - since > self._timeout:
                    raise StalledError(
                        f"Nothing moved for {self._timeout:g} s: waited for "
                        f"{' and '.join(map(self._name, sorted(awaited)))}.",
                        mend="See what is done there; ranks must issue the same collectives.",
                    )

    def _step(self, track: _Track) -> bool:
        """Go one step further, if what it waits for is there."""
        until = track.until
        if until is None:
            if not track.queue:
                return False
        elif self._words.behind(until.stage, until.chunks, until.ranks) is not None:
            return False
        track.until = next(track.steps)
        return True

    def _sleep(self) -> bool:
        """Until anything may have changed; False where nothing did for a while."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._flow is not None:
            self._flow.register(poll)
        found = poll.poll(min(_LOOK, self._timeout) * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        return bool(found)

    def _awaited(self) -> set[int]:
        """Other ranks without which what is under way cannot go on."""
        hosts = self._flow.awaited() if self._flow is not None else {}
        ranks = {self._site.hosts[host][self._site.local] for host in hosts}
        for track in self._tracks:
            if track.until is not None:
                until = track.until
                behind = self._words.behind(until.stage, until.chunks, until.ranks)
                if behind is not None:
                    ranks.add(self._site.hosts[self._site.host][behind])
        return ranks - {self._site.hosts[self._site.host][self._site.local]}

    def _bring_in(self) -> Iterator[_Until | None]:
        words, local, everybody = self._words, self._site.local, self._site.locals
        number = 0
        while True:
            yield None
            collective = self._incoming.popleft()
            held: deque[Exchange] = deque()
            for chunk in range(collective.chunks):
                slot = self._segment.slot(local, number)
                yield _Until(Stage.LEFT, number - DEPTH + 1, everybody)
                collective.fill(chunk, slot)
                number += 1
                words.advance(Stage.FILLED, number)
                yield _Until(Stage.FILLED, number, everybody)
                collective.combine(chunk, self._slots(number - 1))
                reduced = partial(words.advance, Stage.REDUCED, number)
                if self._flow is None:
                    reduced()
                else:
                    exchange = collective.exchange(chunk, slot, reduced)
                    self._flow.submit(*exchange.scatter)
                    held.append(exchange)
                    if len(held) > AHEAD:
                        self._flow.submit(*held.popleft().gather)
                self._outgoing.append((collective, chunk, number))
            while held and self._flow is not None:
                self._flow.submit(*held.popleft().gather)
            if not collective.chunks:
                self._outgoing.append((collective, -1, number))

    def _bring_out(self) -> Iterator[_Until | None]:
        while True:
            yield None
            collective, chunk, number = self._outgoing.popleft()
            if chunk >= 0:
                yield _Until(Stage.REDUCED, number, self._site.rails)
                collective.take(chunk, self._slots(number - 1))
                self._words.advance(Stage.LEFT, number)
            if chunk == collective.chunks - 1:
                collective.complete()
                self._pending.pop(collective, None)

    def _slots(self, number: int) -> list[Tensor]:
        return [self._segment.slot(rank, number) for rank in range(self._site.locals)]
