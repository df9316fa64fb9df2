"""A headless Chromium that fails on any request that leaves this machine, and on any error."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ds_inspector.server import assets
from ds_inspector.server.answers import Answers
from ds_inspector.server.app import application
from ds_inspector.server.broadcast import Broadcast
from made_up import example

CHROMIUM = Path("/usr/bin/chromium")


def pytest_collection_modifyitems(items):
    missing = ""
    if not CHROMIUM.is_file():
        missing = f"there is no {CHROMIUM}"
    elif not (assets.FOLDER / "index.html").is_file():
        missing = "the page is not built; npm builds it"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@contextmanager
def served(recordings, live=None) -> Iterator[str]:
    """The address of a page, while it is served by a thread."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        broadcast = None if live is None else Broadcast(live)
        answers = Answers(recordings, live=live is not None)
        server = uvicorn.Server(
            uvicorn.Config(
                application(answers, "token", port, broadcast),
                lifespan="off",
                log_level="error",
                timeout_graceful_shutdown=1,
            )
        )
        if broadcast is not None:
            broadcast.start()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/token/"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="session")
def address(chromium):
    with served([example(), example(slow=0.25)]) as found:
        yield found


@pytest.fixture
def page(chromium):
    """A page that may ask this machine alone, and that has nothing to complain about."""
    context = chromium.new_context(viewport={"width": 1400, "height": 850})
    context.set_default_timeout(10_000)
    page = context.new_page()
    wrong = []
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def failed(request):
        if "ERR_ABORTED" not in str(request.failure):  # as when another page is gone to
            wrong.append(f"{request.url} failed: {request.failure}")

    page.on("requestfailed", failed)

    def asked(request):
        if not request.url.startswith(("http://127.0.0.1:", "file:///", "data:", "blob:")):
            wrong.append(f"asked for {request.url}")

    page.on("request", asked)
    yield page
    context.close()
    assert wrong == []
