import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from ds_inspector.server import assets, serve, serving
from made_up import example

from ds_core.errors import RefusedError

pytestmark = pytest.mark.skipif(
    not (assets.FOLDER / "index.html").is_file(), reason="the page is not built; npm builds it"
)


def viewer(file, *options):
    command = [sys.executable, "-m", "ds_core", "inspect", "view", str(file), "--no-browser"]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_viewers_at_once_each_with_its_own_address_end_by_ctrl_c(tmp_path):
    file = example().save(tmp_path / "run.dsrec")
    viewers = [viewer(file), viewer(file)]
    try:
        addresses = [one.stdout.readline().strip() for one in viewers]
        assert len(set(addresses)) == 2
        for address in addresses:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", address)
            with urllib.request.urlopen(f"{address}api/session", timeout=20) as reply:
                assert b'"train.py"' in reply.read()
        for one in viewers:
            one.send_signal(signal.SIGINT)
        for one in viewers:
            _, errors = one.communicate(timeout=20)
            assert one.returncode == 0
            assert errors == ""
    finally:
        for one in viewers:
            one.kill()
            one.communicate()


def test_ctrl_c_ends_it_while_a_page_waits_for_a_file():
    code = (
        "import time; from ds_inspector.server import serve; "
        "serve(lambda: time.sleep(60), browser=False)"
    )
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()
        urllib.request.urlopen(address, timeout=20).close()  # from now on it serves
        told = queue.Queue()

        def ask():
            try:
                urllib.request.urlopen(f"{address}api/session", timeout=50)
            except urllib.error.HTTPError as error:
                told.put(error.read())

        waiting = threading.Thread(target=ask)
        waiting.start()
        time.sleep(0.5)  # until it waits
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        waiting.join()
    assert process.returncode == 0
    assert errors == ""
    assert b"has ended" in told.get(timeout=0)


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RefusedError, match=f"Port {port} is in use") as caught:
            serve(lambda: [example()], port=port, browser=False)
    assert "--port" in caught.value.mend


def test_a_page_that_was_not_built_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    with pytest.raises(RefusedError, match="not built") as caught:
        serve(lambda: [example()], browser=False)
    assert "npm" in caught.value.mend


def test_the_page_says_what_a_file_that_was_read_in_vain_is_refused_for(monkeypatch, capsys):
    asked, addresses, raised = threading.Event(), queue.Queue(), queue.Queue()
    monkeypatch.setattr(serving.webbrowser, "open", addresses.put)

    def opened():
        assert asked.wait(20)
        raise RefusedError("big.json is truncated.")

    def run():
        try:
            serve(opened)
        except RefusedError as error:
            raised.put(str(error))

    server = threading.Thread(target=run)
    server.start()
    address = addresses.get(timeout=20)
    with urllib.request.urlopen(address, timeout=20) as reply:
        assert b"app.js" in reply.read()
    threading.Timer(0.3, asked.set).start()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}api/session", timeout=20)
    assert caught.value.code == 422
    assert b"big.json is truncated." in caught.value.read()
    server.join(20)
    assert raised.get(timeout=0) == "big.json is truncated."
    assert address in capsys.readouterr().out


def test_a_file_that_is_refused_at_once_has_no_page(tmp_path):
    (tmp_path / "run.dsrec").write_bytes(b"nothing")
    with viewer(tmp_path / "run.dsrec") as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "http" not in out
    assert "run.dsrec" in errors
