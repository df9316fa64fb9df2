"""How long it takes to see something, in a headless Chromium, beside other viewers.

    python benchmarks/browser.py [--nodes 50000] [--events 1000000] [--repeats 3] [--no-peers]
        [--onnx FILE] [--trace FILE]

Times are wall-clock, from starting the command (for a page that is there already: from opening it)
until the canvas is drawn; the browser runs already. Netron and speedscope are installed from their
packages into a temporary folder. Printed are medians; a viewer that shows nothing within the limit
is said so.
"""

import argparse
import functools
import http.server
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from importing import make_graph, make_trace
from playwright.sync_api import TimeoutError as TookTooLong
from playwright.sync_api import sync_playwright

LIMIT = 180
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DRAWN = "canvas => Number(document.querySelector(canvas)?.dataset.painted) > 0"
EXPAND = """() => new Promise(done => {
    const canvas = document.querySelector("canvas.graph-canvas");
    const before = canvas.dataset.painted;
    const began = performance.now();
    new MutationObserver(() => {
        if (canvas.dataset.painted !== before) done((performance.now() - began) / 1000);
    }).observe(canvas, {attributes: true});
    dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
    setTimeout(() => done(NaN), 20000);
})"""


@contextmanager
def viewer(file):
    """`ds inspect view`: its address."""
    command = [sys.executable, "-m", "ds_core", "inspect", "view", str(file), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def opened(browser):
    page = browser.new_page(viewport={"width": 1440, "height": 860})
    page.set_default_timeout(LIMIT * 1000)
    try:
        yield page
    finally:
        page.close()


def first_graph(browser, file):
    """Seconds from the command to the graph, from its address to the graph, and to expand."""
    began = time.perf_counter()
    with viewer(file) as address, opened(browser) as page:
        listening = time.perf_counter()
        page.goto(address)
        page.wait_for_function(DRAWN, arg="canvas.graph-canvas")
        drawn = time.perf_counter()
        page.wait_for_timeout(1500)  # groups that open by themselves
        expanded = []
        for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
            page.wait_for_timeout(300)
            expanded.append(page.evaluate(EXPAND))
        known = [one for one in expanded if one == one]
        return drawn - began, drawn - listening, max(known, default=float("nan"))


def flame(browser, file):
    """Seconds from the command to the flame graph, and from its address."""
    began = time.perf_counter()
    with viewer(file) as address, opened(browser) as page:
        listening = time.perf_counter()
        page.goto(f"{address}#view=flame")
        page.wait_for_function(DRAWN, arg="canvas.flame-canvas")
        drawn = time.perf_counter()
        page.reload()
        page.wait_for_function(DRAWN, arg="canvas.flame-canvas")
        return drawn - began, drawn - listening, time.perf_counter() - drawn


def netron(browser, file, folder):
    """Seconds from the command to the graph; what is asked of the visitor first is agreed to."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); import netron; "
        "print(netron.start(sys.argv[1], browse=False)[1], flush=True); netron.wait()"
    )
    began = time.perf_counter()
    command = [sys.executable, "-c", code, str(file), str(folder)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = next((line.strip() for line in process.stdout if line.strip().isdigit()), None)
        with opened(browser) as page:
            page.goto(f"http://localhost:{port}")
            agree = page.get_by_text("Accept", exact=True)
            agree.or_(page.locator(".node").first).first.wait_for()
            if agree.is_visible():
                agree.click()
            page.locator(".node").first.wait_for()
            return time.perf_counter() - began
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def files(*folders):
    """Addresses of folders that are served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def end_headers(self):
            self.send_header("Access-Control-Allow-Origin", "*")
            super().end_headers()

    servers = []
    for folder in folders:
        handler = functools.partial(Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()


def speedscope(browser, file, release):
    """Seconds from opening its page to the flame graph, or what it says when it fails."""
    with files(release, file.parent) as (address, data), opened(browser) as page:
        began = time.perf_counter()
        page.goto(f"{address}/index.html#profileURL={data}/{file.name}")
        shown = page.get_by_text("Time Order")
        failed = page.get_by_text("Something went wrong")
        shown.or_(failed).first.wait_for()
        return "fails" if failed.is_visible() else time.perf_counter() - began


def install(folder):
    """The peers that can be had: their names, and where they lie."""
    found = {}
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder / "netron")]
    if subprocess.run([*pip, "netron"], check=False).returncode == 0:
        found["netron"] = folder / "netron"
    npm = shutil.which("npm")
    if npm:
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]
        subprocess.run([*command, "speedscope"], check=False)
        release = folder / "node_modules" / "speedscope" / "dist" / "release"
        if (release / "index.html").is_file():
            found["speedscope"] = release
    return found


def repeated(count, measure, *arguments):
    """Medians of what is measured."""
    found = []
    for _ in range(count):
        try:
            value = measure(*arguments)
        except TookTooLong:
            return [float("nan")]
        if value == "fails":
            return [value]
        found.append(value if isinstance(value, tuple) else (value,))
    return [statistics.median(column) for column in zip(*found, strict=True)]


def row(what, seconds, goal=""):
    if seconds == "fails":
        print(f"{what:52}      fails", flush=True)
        return
    shown = f"{seconds:9.2f} s" if seconds == seconds else f"   none in {LIMIT} s"
    print(f"{what:52}{shown}  {goal}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=50_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        model = given.onnx or folder / "graph.onnx"
        if given.onnx is None:
            make_graph(model, given.nodes)
        trace = given.trace or folder / "trace.json"
        if given.trace is None:
            make_trace(trace, given.events)
        peers = {} if given.no_peers else install(folder)
        saved = folder / "trace.dsrec"
        command = [sys.executable, "-m", "ds_core", "inspect", "-o", str(saved), str(trace)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=given.chromium, args=OPTIONS)
        print(f"median of {given.repeats}")
        all_in, page, expand = repeated(given.repeats, first_graph, browser, model)
        row(f"{model.name}: command to graph", all_in, "goal 2 s")
        row("  of it the page", page)
        row("  expand a group (slowest of three)", expand, "goal 0.2 s")
        if "netron" in peers:
            (seconds,) = repeated(given.repeats, netron, browser, model, peers["netron"])
            row("  netron: command to graph", seconds)
        all_in, page, again = repeated(given.repeats, flame, browser, trace)
        row(f"{trace.name}: command to flame graph", all_in, "goal 3 s")
        row("  of it the page", page)
        all_in, page, again = repeated(given.repeats, flame, browser, saved)
        row(f"{saved.name}: command to flame graph", all_in)
        row("  of it the page", page, "goal 0.3 s")
        row("  the page once more", again)
        if "speedscope" in peers:
            (seconds,) = repeated(1, speedscope, browser, trace, peers["speedscope"])
            row(f"  speedscope: page to flame graph of {trace.name}", seconds)
            export = folder / "speedscope.json"
            command = ["export", str(saved), "--to", "speedscope", "-o", str(export)]
            subprocess.run([sys.executable, "-m", "ds_core", "inspect", *command], check=True)
            (seconds,) = repeated(1, speedscope, browser, export, peers["speedscope"])
            row("  speedscope: the same, of our export to it", seconds)
        browser.close()


if __name__ == "__main__":
    main()
