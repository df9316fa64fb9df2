"""The server: on loopback, until it is interrupted."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ds_core.errors import RefusedError
from ds_inspector.server import assets
from ds_inspector.server.answers import Answers

if TYPE_CHECKING:
    from ds_inspector.recording import Recording
    from ds_inspector.server.broadcast import Source


def serve(
    recordings: Sequence[Recording] = (),
    *,
    live: Source | None = None,
    title: str = "",
    port: int | None = None,
    browser: bool = True,
) -> None:
    """Show recordings or a running session in a page, until Ctrl-C.

    The address is printed, with a token that is new each time.

    Args:
        recordings: One, or two: what is looked at, and what it is compared with.
        live: Gives the steps of a running session.
        title: Of the page; by default the first recording's.
        port: To listen on; any free one by default.
        browser: Whether to open the page.

    Raises:
        RefusedError: The port is in use, or the page was not built.
    """
    import uvicorn

    from ds_inspector.server.app import application
    from ds_inspector.server.broadcast import Broadcast

    assets.read("index.html")
    with _listening(port) as listener:
        number = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        broadcast = None if live is None else Broadcast(live)
        answers = Answers(recordings, title=title, live=live is not None)
        server = uvicorn.Server(
            uvicorn.Config(
                application(answers, token, number, broadcast),
                access_log=False,
                http="h11",
                lifespan="off",
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=1,
                ws="none",
            )
        )
        address = f"http://127.0.0.1:{number}/{token}/"
        click.echo(f"{address}\nCtrl-C ends it.")
        if broadcast is not None:
            broadcast.start()
        threading.Thread(target=answers.prepare, daemon=True).start()
        if browser:
            webbrowser.open(address)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            click.echo("")


def _listening(port: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port or 0))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RefusedError(
                f"Port {port} is in use.", mend="Leave out --port to take a free one."
            ) from error
        raise RefusedError(f"Port {port} cannot be listened on: {error.strerror}.") from error
    return listener
