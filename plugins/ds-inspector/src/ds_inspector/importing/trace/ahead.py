"""Reading ahead in a thread: decompressing leaves the interpreter to others."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

_DEPTH = 16


def ahead(source: Iterator[T]) -> Generator[T, None, None]:
    """The same items, the next of which are made while one is used; errors come in their place.

    The thread ends when the generator is closed or exhausted.
    """
    items: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(_DEPTH)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                items.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                put(item, None)
                if stopped.is_set():
                    return
            put(None, StopIteration())
        except Exception as error:  # raised where the items are used
            put(None, error)

    thread = threading.Thread(target=work, name="ds-inspector reading", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only beside an error
    finally:
        stopped.set()
        thread.join()
