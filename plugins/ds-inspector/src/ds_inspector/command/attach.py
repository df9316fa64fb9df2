"""`ds inspect attach`: listen to a running session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ds_inspector.live import Session


@click.command("attach")
@click.argument("pid", type=int, required=False)
@click.option("--page", is_flag=True, help="Show it in the browser.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of the page; a free one if not given.")
@click.option("--no-browser", is_flag=True, help="Print the page's address, do not open it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
def attach(pid: int | None, page: bool, port: int | None, no_browser: bool, as_json: bool) -> None:
    """Print the steps of a running session as they end, with their memory.

    Without PID, list the sessions that run; with --page and only one, show that. A session is one
    with the observer `inspector` and its option live=True.
    """
    from ds_inspector.live import sessions

    running = sessions()
    if pid is None and not (page and len(running) == 1):
        _list(running, as_json)
        return
    session = _chosen(running, pid)
    if page:
        _page(session, port, not no_browser)
    else:
        _stream(session, as_json)


def _chosen(running: list[Session], pid: int | None) -> Session:
    from ds_core.errors import UnknownNameError

    for session in running:
        if pid in (None, session.pid):
            return session
    known = ", ".join(str(session.pid) for session in running)
    raise UnknownNameError(
        f"Process {pid} is no session that publishes its steps.",
        mend=f"There are: {known}." if known else 'Attach with observers=["inspector"], live=True.',
    )


def _list(running: list[Session], as_json: bool) -> None:
    from ds_core.cli.output import echo_table
    from ds_inspector.command.figures import cut
    from ds_inspector.command.printing import echo_json

    if as_json:
        for session in running:
            told = {"pid": session.pid, "name": session.name, "started": session.started}
            echo_json(told, indent=False)
    elif not running:
        click.echo("No session that publishes its steps is running.")
    else:
        rows = []
        for session in running:
            began = datetime.fromtimestamp(session.started).strftime("%Y-%m-%d %H:%M:%S")
            rows.append([str(session.pid), began, cut(session.name, 60)])
        echo_table(["pid", "started", "name"], rows)


def _stream(session: Session, as_json: bool) -> None:
    from ds_inspector.command.printing import echo_json
    from ds_inspector.live import follow

    try:
        for message in follow(session):
            if as_json:
                echo_json(message, indent=False)
            else:
                click.echo(_line(message))
    except KeyboardInterrupt:
        click.echo()


def _line(message: dict[str, Any]) -> str:
    from ds_core.cli.output import size
    from ds_inspector.command.figures import seconds

    if message.get("event") != "step":
        return "The session has ended."
    parts = [f"step {message.get('step')}: {seconds(message.get('seconds'))}"]
    for key, name in (("bytes", "allocated"), ("peak_bytes", "peak")):
        if message.get(key) is not None:
            parts.append(f"{size(int(message[key]))} {name}")
    if isinstance(message.get("loss"), int | float):
        parts.append(f"loss {message['loss']:.4g}")
    return ", ".join(parts)


def _page(session: Session, port: int | None, browser: bool) -> None:
    from ds_inspector.live import follow
    from ds_inspector.server import serve

    def steps() -> Iterator[dict[str, Any]]:
        for message in follow(session):
            if message.get("event") == "step":
                yield {key: value for key, value in message.items() if key != "event"}

    title = f"{session.name} (pid {session.pid})"
    serve(live=steps, title=title, port=port, browser=browser)
