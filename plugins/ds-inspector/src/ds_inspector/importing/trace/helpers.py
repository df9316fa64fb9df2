"""Other processes that decode the text of large traces: one interpreter uses one core."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from threading import Semaphore
from typing import Self

from ds_inspector.importing.trace.batch import Batch
from ds_inspector.importing.trace.decoding import END, receive, send

_MOST = 6  # beyond, joining what they make takes longer
_AHEAD = 2  # texts that each has at once, so that none waits for the next

Answer = Future[Batch | None]
Job = tuple[memoryview, Answer]


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Helpers:
    """Processes that make batches of text, until they are closed.

    Once one of them fails, whoever asks does the rest alone.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        count = min(count, _MOST)
        self._room = (_AHEAD + 1) * count
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name="ds-inspector decoding", daemon=True)
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def in_order(self, texts: Iterator[memoryview]) -> Generator[Batch, None, list[memoryview]]:
        """Batches of parts of a list in JSON; returns the texts from the first wrong one on."""
        under_way: deque[tuple[memoryview, Answer]] = deque()
        for text in chain(texts, [None]):
            if text is not None:
                answer: Answer = Future()
                self._jobs.put((text, answer))
                under_way.append((text, answer))
            while under_way and (
                text is None or len(under_way) > self._room or under_way[0][1].done()
            ):
                found = under_way[0][1].result()
                if found is None:
                    return [text for text, _ in under_way]
                under_way.popleft()
                yield found
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _jobs_to_do(self) -> Iterator[Job]:
        while (job := self._jobs.get()) is not None:
            yield job
        self._jobs.put(None)  # for the others

    def _work(self) -> None:
        with suppress(Exception):  # whatever keeps it from starting or ends it
            self._converse()
        for _, answer in self._jobs_to_do():
            answer.set_result(None)

    def _converse(self) -> None:
        asked: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        with subprocess.Popen(
            # Not of the folder that it runs in, which may be anybody's.
            [sys.executable, "-P", "-m", "ds_inspector.importing.trace.decoding"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process alone
        ) as process:
            assert process.stdin is not None
            room = Semaphore(_AHEAD - 1)
            taking = threading.Thread(target=_take, args=(process, asked, room), daemon=True)
            taking.start()
            try:
                for text, answer in self._jobs_to_do():
                    asked.put(answer)
                    send(process.stdin, text)
                    room.acquire()
                send(process.stdin, END)  # others may have the pipe, too, and keep it open
            finally:
                asked.put(None)
                taking.join()


def _take(
    process: subprocess.Popen[bytes], asked: queue.SimpleQueue[Answer | None], room: Semaphore
) -> None:
    """Take batches in as they come; once none can come, there are none."""
    assert process.stdout is not None
    while (answer := asked.get()) is not None:
        batch = None
        try:
            batch = pickle.loads(receive(process.stdout))  # of a process of our own
        except Exception:  # it has ended, or says what nobody understands
            process.kill()
        answer.set_result(batch)
        room.release()
