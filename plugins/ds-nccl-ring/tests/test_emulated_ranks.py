"""Functions as ranks of an emulated cluster: where they run, and how they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ds_nccl_ring.emulated_cluster import EmulatedCluster, RankError

from ds_core.testing import requires_emulated_cluster

pytestmark = [pytest.mark.cluster, pytest.mark.processes, requires_emulated_cluster]


@pytest.fixture(scope="module")
def cluster():
    with EmulatedCluster(2, 2, "400mbit") as made:
        yield made


def rank():
    return int(os.environ["RANK"])


def reduced(nbytes):
    """The sum over ranks by gloo, and how long it took."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    tensor = torch.full((nbytes // 4,), float(dist.get_rank()))
    dist.barrier()
    start = time.perf_counter()
    dist.all_reduce(tensor)
    seconds = time.perf_counter() - start
    dist.destroy_process_group()
    return float(tensor[-1]), seconds


def test_what_was_sent_counts_from_the_start_of_a_job(cluster):
    cluster.run(reduced, 4 << 20, timeout=60)
    cluster.run(rank, timeout=20)
    assert max(cluster.bytes_sent().values()) < 1 << 20


def test_ranks_meet_and_the_uplinks_carry_and_limit_what_they_send(cluster):
    nbytes = 4 << 20
    results = cluster.run(reduced, nbytes, timeout=60)
    assert [value for value, _ in results] == [6.0] * 4
    # A flat ring over four ranks sends 1.5 tensors from each host.
    sent = cluster.bytes_sent()
    assert set(sent) == {"host0", "host1"}
    for amount in sent.values():
        assert 1.5 * nbytes < amount < 1.6 * nbytes
    # Never faster than the rate.
    assert max(seconds for _, seconds in results) > 1.5 * nbytes / cluster.rate * 0.95


@pytest.mark.parametrize(
    ("ranks", "interleaved", "hosts", "locals_"),
    [
        ([2, 1], False, ["host0", "host0", "host1"], ["0", "1", "0"]),
        ([2, 2], True, ["host0", "host1", "host0", "host1"], ["0", "0", "1", "1"]),
    ],
)
def test_ranks_are_told_where_they_are(ranks, interleaved, hosts, locals_):
    def told():
        names = ("RANK", "DS_NODE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")
        return [os.environ[name] for name in names]

    with EmulatedCluster(2, ranks, interleaved=interleaved) as cluster:
        found = cluster.run(told, timeout=20)
    assert [one[0] for one in found] == [str(number) for number in range(len(hosts))]
    assert [one[1] for one in found] == hosts
    assert [one[2] for one in found] == locals_
    assert all(one[3] == str(ranks[int(one[1][-1])]) for one in found)
    assert {one[4] for one in found} == {str(sum(ranks))}


def test_an_exception_names_its_rank_and_carries_its_traceback(cluster):
    def broken():
        if rank() == 3:
            raise ValueError("three is unlucky")
        time.sleep(60)

    with pytest.raises(RankError, match="three is unlucky") as caught:
        cluster.run(broken, timeout=30)
    assert caught.value.ranks == (3,)
    assert "in broken" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_rank_that_dies_is_named_with_its_signal(cluster):
    def dies():
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    with pytest.raises(RankError, match=r"1 on host0 ended by SIGTERM"):
        cluster.run(dies, timeout=30)


def test_ranks_that_take_too_long_are_named_and_ended(cluster):
    running = cluster.start(lambda: time.sleep(60 if rank() in (0, 2) else 0))
    with pytest.raises(RankError, match="0 on host0, 2 on host1 did not finish") as caught:
        running.results(timeout=1)
    assert caught.value.ranks == (0, 2)
    assert running.exit_codes() == [-signal.SIGKILL, 0, -signal.SIGKILL, 0]


def test_killed_ranks_have_no_results_and_the_others_do(cluster):
    def stays():
        if os.environ["DS_NODE"] == "host1":
            time.sleep(60)
        return rank()

    running = cluster.start(stays)
    running.kill_host("host1")
    assert running.results(timeout=20) == [0, 1]
    assert running.exit_codes() == [0, 0, -signal.SIGKILL, -signal.SIGKILL]


def test_a_cut_host_is_silent_until_it_is_restored(cluster, tmp_path):
    """No connection is reset meanwhile; what was sent arrives afterwards."""
    ready, restored = tmp_path / "ready", tmp_path / "restored"

    def until(path):
        deadline = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < deadline, path.name
            time.sleep(0.01)

    def talk():
        if rank() == 0:
            with socket.create_server((os.environ["MASTER_ADDR"], 4000)) as server:
                connection, _ = server.accept()
            ready.touch()
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            restored.touch()
            connection.settimeout(20)
            return connection.recv(1)
        if rank() == 2:
            while True:
                try:
                    talker = socket.create_connection((os.environ["MASTER_ADDR"], 4000), 5)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            until(tmp_path / "cut")
            talker.send(b"x")
            until(restored)
            time.sleep(1)
        return b""

    running = cluster.start(talk)
    until(ready)
    cluster.cut("host1")
    (tmp_path / "cut").touch()
    until(restored)
    cluster.restore("host1")
    assert running.results(timeout=30)[0] == b"x"


def test_nothing_is_left_behind():
    def pid():
        time.sleep(60)

    def namespaces():
        # Others may have clusters of their own meanwhile.
        return set(Path("/var/run/netns").glob(f"ds-{os.getpid()}-*"))

    before = namespaces()
    with EmulatedCluster(2, 1) as cluster:
        running = cluster.start(pid)
        pids = [process.pid for process in running._processes]
        assert namespaces() > before
    assert namespaces() == before
    assert not [one for one in pids if Path(f"/proc/{one}").exists()]


OWNER = """
import os, time
from ds_nccl_ring.emulated_cluster import EmulatedCluster

with EmulatedCluster(2, 1) as cluster:
    # In one write: both ranks have the same pipe.
    running = cluster.start(lambda: (os.write(1, b"%d\\n" % os.getpid()), time.sleep(60)))
    running.results(timeout=60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ranks_die_with_the_process_that_forked_them(number):
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    pids = [int(owner.stdout.readline()) for _ in range(2)]
    owner.send_signal(number)
    owner.wait()
    deadline = time.monotonic() + 10
    while [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with EmulatedCluster(1, 1):  # removes what a killed owner left
        assert not list(Path("/var/run/netns").glob(f"ds-{owner.pid}-*"))


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
