import itertools
import os
import socket
import stat
import threading
import time
from contextlib import closing

import pytest
from ds_inspector.live import Publisher, follow, sessions

from ds_core.errors import RefusedError


def heard(session, publisher, steps):
    """What one listener hears of some steps, and of the end."""
    messages = []
    connected = threading.Event()

    def listen():
        lines = follow(session)
        connected.set()
        messages.extend(lines)

    thread = threading.Thread(target=listen)
    thread.start()
    connected.wait(10)
    _wait_for_listener(publisher)
    for step in steps:
        publisher.step(**step)
    publisher.close()
    thread.join(10)
    assert not thread.is_alive()
    return messages


def _wait_for_listener(publisher):
    """Publish until somebody listens: who comes between two steps hears the next."""
    for _ in itertools.count():
        publisher.step(0.5, step=-1)
        if publisher.listeners:
            return
        time.sleep(0.001)


def test_a_listener_hears_every_step_and_the_end():
    publisher = Publisher("train.py")
    (session,) = sessions()
    assert (session.pid, session.name) == (os.getpid(), "train.py")
    told = [{"seconds": 0.1 * step, "bytes": 5, "peak": 9, "loss": 1.5} for step in range(5)]
    messages = heard(session, publisher, told)
    steps = [one for one in messages if one.get("step", -1) >= 0]
    assert [one["seconds"] for one in steps] == [one["seconds"] for one in told]
    assert {"bytes": 5, "peak_bytes": 9, "loss": 1.5}.items() <= steps[0].items()
    assert [one["step"] for one in steps] == list(range(steps[0]["step"], steps[0]["step"] + 5))
    assert messages[-1] == {"event": "end"}
    assert sessions() == []


def test_a_listener_that_does_not_read_is_dropped_and_nothing_waits():
    with closing(Publisher("train.py")) as publisher:
        (session,) = sessions()
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as deaf:
            deaf.connect(os.fspath(session.path))
            publisher.step(0.1)
            assert publisher.listeners == 1
            for _ in range(100_000):  # far more than a socket holds
                publisher.step(0.1, more="x" * 100)
                if not publisher.listeners:
                    break
            assert publisher.listeners == 0


def test_a_listener_that_leaves_is_forgotten():
    with closing(Publisher("train.py")) as publisher:
        (session,) = sessions()
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as brief:
            brief.connect(os.fspath(session.path))
            publisher.step(0.1)
        publisher.step(0.1)
        assert publisher.listeners == 0


def test_a_session_that_is_gone_lets_nobody_in(runtime):
    publisher = Publisher("train.py")
    (session,) = sessions()
    lines = follow(session)
    for path in runtime.iterdir():
        path.unlink()
    with pytest.raises(RefusedError, match="publishes nothing"):
        next(lines)
    publisher.close()


def test_a_session_that_is_killed_ends_for_its_listeners():
    child = os.fork()
    if not child:
        _wait_for_listener(Publisher("killed"))
        os._exit(1)
    while not (found := sessions()):
        time.sleep(0.001)
    assert list(follow(found[0]))[-1] == {"event": "end"}
    os.waitpid(child, 0)
    assert sessions() == []


def test_sessions_of_one_process_are_told_apart():
    with closing(Publisher("one")), closing(Publisher("two")):
        assert {session.name for session in sessions()} == {"one", "two"}


def test_what_dead_sessions_left_is_removed(runtime):
    with closing(Publisher("alive")):
        gone = _ended_process()
        for suffix in ("json", "sock"):
            (runtime / f"{gone}-0.{suffix}").write_text(
                f'{{"pid": {gone}, "name": "", "started": 1}}'
            )
        (runtime / f"{gone}-1.json").write_text("no json")
        assert [session.name for session in sessions()] == ["alive"]
        assert not list(runtime.glob(f"{gone}-*"))


def _ended_process():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def test_only_its_user_may_enter(runtime):
    with closing(Publisher("train.py")):
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_a_folder_that_others_may_enter_is_not_used(runtime):
    runtime.mkdir()
    runtime.chmod(0o755)
    publisher = Publisher("train.py")
    assert "only you" in publisher.problem
    publisher.step(0.1)
    publisher.close()
    with pytest.raises(RefusedError, match="only you"):
        sessions()


def test_a_link_to_elsewhere_is_not_used(runtime, tmp_path):
    (tmp_path / "other").mkdir(mode=0o700)
    runtime.symlink_to(tmp_path / "other")
    assert Publisher("train.py").problem
    assert not list((tmp_path / "other").iterdir())


def test_a_path_too_long_for_a_socket_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 120)))
    publisher = Publisher("train.py")
    assert "too long" in publisher.problem
    publisher.step(0.1)
    publisher.close()


def test_a_forked_child_does_not_speak_for_its_parent():
    publisher = Publisher("train.py")
    child = os.fork()
    if not child:
        publisher.step(0.1)
        publisher.close()
        os._exit(0)
    os.waitpid(child, 0)
    (session,) = sessions()
    assert session.path.exists()
    publisher.close()
    assert sessions() == []
