"""What a collective's caller waits for. Imports torch: only who has a process group comes here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from ds_core.errors import BackendError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.futures import Future


class RingWork(dist.Work):
    """One or several futures, and the tensors that hold the result once they are done.

    Args:
        futures: All must be done.
        outputs: Tensors.
        finish: Called once, before anybody sees the outputs.
    """

    def __init__(
        self,
        futures: Sequence[Future[Any]],
        outputs: list[Tensor],
        finish: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._outputs = outputs
        if finish is None:
            self._futures = list(futures)
        else:
            self._futures = [*futures[:-1], after(futures[-1], finish)]

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        """Wait until the result is there.

        Raises:
            PeerLostError: A rank died.
            BackendError: `timeout` has passed.
        """
        if timeout > timedelta(0) and not self._done_within(timeout.total_seconds()):
            raise BackendError(
                f"A collective was not done within {timeout.total_seconds():g} s.",
                mend="See what the other ranks are waiting for.",
            )
        for future in self._futures:
            future.wait()
        return True

    def synchronize(self) -> None:
        self.wait()

    def is_completed(self) -> bool:
        return all(future.done() for future in self._futures)

    def exception(self) -> Exception | None:
        try:
            if self.is_completed():
                self.wait()
        except Exception as error:
            return error
        return None

    def is_success(self) -> bool:
        return self.is_completed() and self.exception() is None

    def result(self) -> list[Tensor]:
        self.wait()
        return self._outputs

    def get_future(self) -> Future[list[Tensor]]:
        import torch

        futures, outputs = self._futures, self._outputs

        def told(last: Any) -> list[Tensor]:
            for future in futures:  # they complete in order, so that all are done now
                future.value()
            return outputs

        if len(futures) == 1:
            return futures[0].then(told)
        return torch.futures.collect_all(futures).then(told)

    def _done_within(self, seconds: float) -> bool:
        import torch

        done = threading.Event()
        every = torch.futures.collect_all(self._futures)
        every.add_done_callback(lambda future: done.set())
        return done.wait(seconds)


def after(future: Future[Any], finish: Callable[[], None]) -> Future[Any]:
    """A future that is done when `finish` has been called after `future`, or fails like it.

    torch's own `then` would turn every error into a RuntimeError.
    """
    import torch

    made: Future[Any] = torch.futures.Future()

    def call(done: Future[Any]) -> None:
        try:
            value = done.value()
            finish()
        except Exception as error:
            made.set_exception(error)
        else:
            made.set_result(value)

    future.add_done_callback(call)
    return made


def failed(error: Exception) -> Future[Any]:
    """A future that is done and has failed."""
    import torch

    made: Future[Any] = torch.futures.Future()
    made.set_exception(error)
    return made
