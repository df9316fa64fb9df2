import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from ds_inspector.server import assets, serve
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


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RefusedError, match=f"Port {port} is in use") as caught:
            serve([example()], port=port, browser=False)
    assert "--port" in caught.value.mend


def test_a_page_that_was_not_built_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    with pytest.raises(RefusedError, match="not built") as caught:
        serve([example()], browser=False)
    assert "npm" in caught.value.mend
