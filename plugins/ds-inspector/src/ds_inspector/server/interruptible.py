"""A server that Ctrl-C ends at once, also while a page waits for a file to be opened."""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp

    from ds_inspector.server.answers import Opened


class Interruptible(uvicorn.Server):
    """Serves an application on sockets of loopback.

    Args:
        app: The application.
        opened: What its answers wait for; if that is refused, the server ends.
    """

    def __init__(self, app: ASGIApp, opened: Opened) -> None:
        config: Any = uvicorn.Config(
            app,
            access_log=False,
            http="h11",
            lifespan="off",
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
            ws="none",
        )
        super().__init__(config)
        self._opened = opened
        opened.add_done_callback(self._end_if_refused)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end: whoever waits is told."""
        super().handle_exit(sig, frame)
        with suppress(InvalidStateError):
            self._opened.set_exception(RefusedError("The server has ended."))

    def _end_if_refused(self, opened: Opened) -> None:
        if opened.exception() is not None:
            self.should_exit = True
