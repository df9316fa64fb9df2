"""The server: on loopback, until it is interrupted."""

from __future__ import annotations

import errno
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from ds_core.errors import RefusedError
from ds_inspector.server import assets
from ds_inspector.server.answers import Answers, Opened

if TYPE_CHECKING:
    from ds_inspector.recording import Recording
    from ds_inspector.server.broadcast import Source

_AT_ONCE = 0.2
"""Seconds within which most files are opened or refused; the page comes before larger ones."""

_TURN = 0.0005
"""Seconds for which one thread keeps the others from the interpreter: opening a file, or a long
answer, holds up the page no longer."""


def serve(
    recordings: Callable[[], Sequence[Recording]] = tuple,
    *,
    live: Source | None = None,
    title: str = "",
    port: int | None = None,
    browser: bool = True,
) -> None:
    """Show recordings or a running session in a page, until Ctrl-C.

    The address is printed, with a token that is new each time. Large files are opened while the
    browser starts.

    Args:
        recordings: Opens one, or two: what is looked at, and what it is compared with.
        live: Gives the steps of a running session.
        title: Of the page; by default the first recording's.
        port: To listen on; any free one by default.
        browser: Whether to open the page.

    Raises:
        RefusedError: The port is in use, or the page was not built.
        DsError: The recordings cannot be opened.
    """
    assets.read("index.html")
    with _listening(port) as listener, _short_turns():
        opened: Opened = Future()
        threading.Thread(target=_open, args=(recordings, opened), daemon=True).start()
        from ds_inspector.server.app import application
        from ds_inspector.server.broadcast import Broadcast
        from ds_inspector.server.interruptible import Interruptible

        number = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        broadcast = None if live is None else Broadcast(live)
        answers = Answers(opened, title=title, live=live is not None)
        server = Interruptible(application(answers, token, number, broadcast), opened)
        wait([opened], _AT_ONCE)
        _raise_if_refused(opened)
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
            return
        _raise_if_refused(opened)


@contextmanager
def _short_turns() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _open(recordings: Callable[[], Sequence[Recording]], opened: Opened) -> None:
    with suppress(InvalidStateError):  # the server has ended
        try:
            found = recordings()
        except Exception as error:  # raised where it is asked for
            opened.set_exception(error)
        else:
            opened.set_result(found)


def _raise_if_refused(opened: Opened) -> None:
    """Raise what was raised instead of opening."""
    if opened.done():
        opened.result()


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
