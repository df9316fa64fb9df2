"""The emulated cluster: its wires carry what it says, and nothing of it stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds_core.errors import ConfigError, UnknownNameError
from ds_core.testing.emulated_cluster import (
    EmulatedCluster,
    EmulationError,
    EmulationUnavailable,
    JobFailed,
    JobTimeout,
    lower_bound,
    unavailable_reason,
)
from ds_core.testing.emulated_cluster.fixtures import emulated_cluster, requires_emulated_cluster
from ds_core.testing.emulated_cluster.seats import seats

pytestmark = pytest.mark.processes

MIB = 2**20
NAMESPACES = Path("/var/run/netns")

pair = emulated_cluster(hosts=2, rate="200mbit")
four = emulated_cluster(hosts=2, ranks_per_host=2, rate="400mbit")

# Rank 0 sends SIZE bytes to rank 1 and prints how long it took until the last one was there.
TRANSFER = """
import os, socket, time
size, port = int(os.environ["SIZE"]), int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    server = socket.create_server((os.environ["MASTER_ADDR"], port))
    peer, _ = server.accept()
    begin = time.perf_counter()
    peer.sendall(bytes(size))
    peer.shutdown(socket.SHUT_WR)
    assert peer.recv(1) == b"k"
    print(time.perf_counter() - begin)
else:
    while True:
        try:
            peer = socket.create_connection((os.environ["MASTER_ADDR"], port))
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    while piece := peer.recv(1 << 20):
        size -= len(piece)
    assert size == 0
    peer.sendall(b"k")
"""

# The ranks say in turn where they are.
PLACES = """
import os
names = "RANK LOCAL_RANK GROUP_RANK WORLD_SIZE LOCAL_WORLD_SIZE DS_NODE MASTER_ADDR"
print(*(os.environ[name] for name in names.split()))
"""

ALL_REDUCE = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
x = torch.full((int(os.environ["SIZE"]) // 4,), float(rank + 1))
dist.all_reduce(x)
assert (x == world * (world + 1) / 2).all(), x
dist.destroy_process_group()
print("right")
"""

# Rank 1 talks; rank 0 tells when it hears nothing for a while, and when it hears again.
TALK = """
import os, socket, sys, time
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    peer, _ = socket.create_server(address).accept()
    peer.settimeout(0.5)
    states, said = ["talking", "silence", "talking again"], 0
    while said < len(states):
        try:
            heard = bool(peer.recv(1))
            if not heard: sys.exit("the connection was closed")
        except TimeoutError:
            heard = False
        if heard == (said != 1):
            print(states[said], flush=True)
            said += 1
    peer.close()
else:
    while True:
        try:
            peer = socket.create_connection(address)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    try:
        while True:
            peer.sendall(b"x")
            time.sleep(0.01)
    except ConnectionError:
        pass
"""

# Every rank starts a child that detaches itself, and stays.
STAY = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(child.pid, "ready", flush=True)
time.sleep(1000)
"""

# A process with a cluster in which ranks run; it prints the namespaces and the processes.
OWNER = f"""
import signal, sys, time
from ds_core.testing.emulated_cluster import EmulatedCluster
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
with EmulatedCluster(hosts=2) as cluster:
    job = cluster.start([sys.executable, "-c", {STAY!r}])
    job.wait_for_output("ready", timeout=30)
    print(*(cluster.namespace(host) for host in cluster.hosts))
    print(*(rank.stdout.split()[0] for rank in job.ranks), flush=True)
    time.sleep(1000)
"""


def python(code):
    return [sys.executable, "-c", code]


def namespaces():
    """Those of this process."""
    found = NAMESPACES.iterdir() if NAMESPACES.is_dir() else ()
    return {path.name for path in found if path.name.startswith(f"ds-{os.getpid()}-")}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def children(job):
    return [int(rank.stdout.split()[0]) for rank in job.ranks]


def transfer(cluster, size):
    result = cluster.run(python(TRANSFER), timeout=60, env={"SIZE": str(size)}).check()
    return float(result.ranks[0].stdout), result


# What the wires carry.


def test_rate_of_a_wire_is_the_rate_that_was_asked_for(pair):
    size = 16 * MIB
    seconds, _ = transfer(pair, size)
    assert 0.85 < size * 8 / seconds / 200e6 < 1.15


def test_counted_bytes_are_those_that_were_sent_and_their_headers(pair):
    size = 4 * MIB
    _, result = transfer(pair, size)
    wires = result.wires
    frames = wires["host0"].sent_frames
    # No frame is larger than the MTU, and each has 14 + 20 + 20 to 32 bytes of headers.
    assert frames >= size / 8960
    assert size + 54 * size / 8960 <= wires["host0"].sent <= 1.02 * size + 90 * frames
    # A connection's last frames may be on their way.
    assert wires["host1"].received == pytest.approx(wires["host0"].sent, abs=500)
    assert wires["host1"].sent == pytest.approx(wires["host0"].received, abs=500)
    assert wires["host1"].sent < size / 10


@requires_emulated_cluster
@pytest.mark.parametrize(("rate", "mtu"), [(None, 9000), ("1gbit", 1500), (2 * 10**9, 9000)])
def test_frames_are_counted_at_any_rate_and_mtu(rate, mtu):
    size = 4 * MIB
    with EmulatedCluster(hosts=2, rate=rate, mtu=mtu) as cluster:
        seconds, result = transfer(cluster, size)
        wire = result.wires["host0"]
        assert size / (mtu - 40) <= wire.sent_frames <= 2 * size / (mtu - 52)
        assert size + 54 * size / (mtu - 40) <= wire.sent <= 1.02 * size + 90 * wire.sent_frames
        assert cluster.rate is None or size * 8 / seconds < 1.15 * cluster.rate


def test_wires_start_at_zero_for_each_run(pair):
    before = pair.wires()["host0"].sent
    _, first = transfer(pair, MIB)
    _, second = transfer(pair, MIB)
    assert 0.9 < first.wires["host0"].sent / second.wires["host0"].sent < 1.1
    total = pair.wires()["host0"].sent - before
    assert total >= first.wires["host0"].sent + second.wires["host0"].sent


def test_two_clusters_at_once_share_nothing(pair):
    with EmulatedCluster(hosts=2, rate="50mbit") as other:
        size = 2 * MIB
        env = {"SIZE": str(size)}
        jobs = [cluster.start(python(TRANSFER), env=env) for cluster in (pair, other)]
        results = [job.wait(60).check() for job in jobs]
        fast, slow = (float(result.ranks[0].stdout) for result in results)
        assert 0.85 < size * 8 / slow / 50e6 < 1.15
        assert fast < slow
        assert all(result.wires["host0"].sent < 1.1 * size for result in results)
    assert pair.wires()["host0"].sent > 0


def test_gloo_sums_right_and_its_ring_pays_for_interleaved_ranks(four):
    size = 8 * MIB
    sent = {}
    for placement in ("contiguous", "interleaved"):
        result = four.run(
            python(ALL_REDUCE), timeout=120, env={"SIZE": str(size)}, placement=placement
        ).check()
        assert [rank.stdout.strip() for rank in result.ranks] == ["right"] * 4
        sent[placement] = [wire.sent for wire in result.wires.values()]
    # A flat ring of n ranks passes 2(n-1)/n of the buffer over each of its edges. Contiguous, one
    # edge leaves each host; interleaved, all of its ranks' edges do. No less than the bound.
    edge = 2 * 3 / 4 * size
    for contiguous, interleaved in zip(*sent.values(), strict=True):
        assert 2 * (2 - 1) / 2 * size < contiguous
        assert 0.98 * edge < contiguous < 1.05 * edge
        assert 0.98 * 2 * edge < interleaved < 1.05 * 2 * edge


# Where the ranks are.


@requires_emulated_cluster
def test_uneven_hosts_and_both_placements():
    with EmulatedCluster(ranks_per_host=[2, 1, 3]) as cluster:
        assert cluster.world_size == 6
        for placement, hosts, locals_ in (
            ("contiguous", [0, 0, 1, 2, 2, 2], [0, 1, 0, 0, 1, 2]),
            ("interleaved", [0, 1, 2, 0, 2, 2], [0, 0, 0, 1, 1, 2]),
        ):
            result = cluster.run(python(PLACES), timeout=60, placement=placement).check()
            for rank, host, local in zip(result.ranks, hosts, locals_, strict=True):
                there = [2, 1, 3][host]
                said = f"{rank.rank} {local} {host} 6 {there} host{host} {cluster.address('host0')}"
                assert rank.stdout.strip() == said
                assert (rank.host, rank.local_rank) == (f"host{host}", local)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_every_placement_fills_every_host(counts):
    contiguous, interleaved = seats(counts, "contiguous"), seats(counts, "interleaved")
    for places in (contiguous, interleaved):
        assert [place.rank for place in places] == list(range(sum(counts)))
        for host, count in enumerate(counts):
            assert [p.local_rank for p in places if p.host == host] == list(range(count))
    assert [p.host for p in contiguous] == sorted(p.host for p in contiguous)
    # As long as all hosts have room, neighbours sit in different ones.
    first = [p.host for p in interleaved[: len(counts) * min(counts)]]
    assert first == list(range(len(counts))) * min(counts)


def test_env_overrides_and_removes(pair):
    code = "import os; print(os.environ.get('DS_NODE'), os.environ['MASTER_PORT'])"
    result = pair.run(python(code), timeout=60, env={"DS_NODE": None, "MASTER_PORT": "7"}).check()
    assert [rank.stdout for rank in result.ranks] == ["None 7\n"] * 2


@requires_emulated_cluster
def test_a_host_sees_its_wire_its_peers_and_nothing_else():
    code = """
    import os, socket
    print(sorted(os.listdir("/sys/class/net")))
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        outside.connect(("192.0.2.1", 9))
        print("reachable")
    except OSError as error:
        print(error.strerror)
    """
    with EmulatedCluster(hosts=1) as cluster:
        result = cluster.run(python(textwrap.dedent(code)), timeout=60).check()
        devices, outside = result.ranks[0].stdout.splitlines()
    assert {"eth0", "lo"} <= set(eval(devices))
    assert outside == "Network is unreachable"


# Faults.


def test_cut_is_silent_and_restore_mends_it(pair):
    job = pair.start(python(TALK))
    job.wait_for_output("talking\n", timeout=30, ranks=[0])
    pair.cut("host1")
    job.wait_for_output("silence\n", timeout=30, ranks=[0])
    assert job.poll() is None  # nobody was told
    pair.restore("host1")
    job.wait_for_output("talking again\n", timeout=30, ranks=[0])
    job.wait(30).check()


def test_kill_ends_all_processes_of_one_host_only(pair):
    job = pair.start(python(STAY))
    job.wait_for_output("ready", timeout=30)
    pair.kill("host1")
    with pytest.raises(JobTimeout, match=r"Rank 0 \(host0\) still ran after 0.5 s"):
        job.wait(0.5)
    survivor, lost = children(job)
    assert [rank.returncode for rank in job.ranks] == [None, -signal.SIGKILL]
    assert alive(survivor)
    assert not alive(lost)
    job.kill()
    assert not alive(survivor)
    assert [rank.returncode for rank in job.wait(10).ranks] == [-signal.SIGKILL] * 2


def test_a_job_that_takes_too_long_is_killed(pair):
    with pytest.raises(JobTimeout, match=r"Rank 0 \(host0\), 1 \(host1\) still ran") as caught:
        pair.run(python(STAY), timeout=2)
    assert caught.value.result.seconds >= 2
    assert not any(alive(pid) for pid in children(caught.value.result))


def test_a_rank_that_fails_is_named_with_its_last_words(pair):
    result = pair.run(
        python("import os; assert os.environ['RANK'] == '0', 'no rank for me'"), timeout=60
    )
    assert [rank.returncode for rank in result.ranks] == [0, 1]
    with pytest.raises(JobFailed, match=r"(?s)1 of 2 ranks failed, rank 1 on host1.*no rank for"):
        result.check()


def test_waiting_for_words_ends_when_the_rank_does(pair):
    job = pair.start(python("print('other words')"))
    with pytest.raises(JobTimeout, match="ended without writing 'words that never come'"):
        job.wait_for_output("words that never come", timeout=60)
    job.wait(30).check()


# Nothing stays behind.


@requires_emulated_cluster
def test_all_is_removed_after_a_failure_inside():
    before = namespaces()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    cluster = EmulatedCluster(hosts=2, rate="1gbit")
    with pytest.raises(ZeroDivisionError), cluster:  # noqa: PT012
        assert len(namespaces() - before) == 3
        job = cluster.start(python(STAY))
        job.wait_for_output("ready", timeout=30)
        raise ZeroDivisionError
    assert namespaces() == before
    assert not any(alive(pid) for pid in children(job))
    assert [rank.returncode for rank in job.poll().ranks] == [-signal.SIGKILL] * 2
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == handlers
    with pytest.raises(EmulationError, match="not open"):
        cluster.wires()
    with cluster:  # it may be opened again
        cluster.run(python("pass"), timeout=30).check()


@requires_emulated_cluster
def test_a_network_that_the_kernel_refuses_is_removed():
    before = namespaces()
    with (
        pytest.raises(EmulationUnavailable, match="failed"),
        EmulatedCluster(hosts=2, rate=2**70),
    ):
        pass
    assert namespaces() == before


@requires_emulated_cluster
def test_a_forked_child_leaves_its_parents_cluster_alone():
    with EmulatedCluster(hosts=2) as cluster:
        names = namespaces()
        child = os.fork()
        if child == 0:
            try:
                cluster.close()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert namespaces() == names
        cluster.run(python("pass"), timeout=30).check()


@requires_emulated_cluster
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_owner_leaves_nothing_that_the_next_does_not_remove(number):
    with subprocess.Popen(python(OWNER), stdout=subprocess.PIPE, text=True) as owner:
        names = owner.stdout.readline().split()
        pids = [int(word) for word in owner.stdout.readline().split()]
        try:
            assert all((NAMESPACES / name).exists() for name in names)
            assert len(names) == len(pids) == 2
            assert all(alive(pid) for pid in pids)
        finally:
            owner.send_signal(number)
        owner.wait(30)
        # SIGINT: as KeyboardInterrupt, which Python turns back into the signal.
        assert owner.returncode == -number
    if number == signal.SIGKILL:
        assert all((NAMESPACES / name).exists() for name in names)
        with EmulatedCluster(hosts=1):
            pass
    assert not any((NAMESPACES / name).exists() for name in names)
    assert not any(alive(pid) for pid in pids)


# Where it cannot be.


def test_without_root_the_reason_says_so():
    code = """
    import os
    from ds_core.testing.emulated_cluster import EmulatedCluster, EmulationUnavailable
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        EmulatedCluster(hosts=1).__enter__()
    except EmulationUnavailable as error:
        print(error)
    """
    said = subprocess.run(python(textwrap.dedent(code)), capture_output=True, text=True).stdout
    assert said.strip() == "An emulated cluster needs root: it makes network namespaces."


@requires_emulated_cluster
def test_without_iproute2_the_reason_names_the_package():
    code = "from ds_core.testing.emulated_cluster import *; print(unavailable_reason())"
    hide = f"mount --bind /dev/null {shutil.which('tc', path='/usr/sbin:/sbin:/usr/bin:/bin')}"
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", *python(code)],
        capture_output=True,
        text=True,
    )
    assert said.stdout.strip() == "An emulated cluster needs 'tc' (Debian package iproute2)."


@requires_emulated_cluster
def test_in_a_container_without_the_right_tests_are_skipped_with_the_reason(tmp_path):
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            from ds_core.testing.emulated_cluster.fixtures import (
                emulated_cluster, requires_emulated_cluster
            )
            cluster = emulated_cluster(hosts=2)
            def test_fixture(cluster): assert False
            @requires_emulated_cluster
            def test_mark(): assert False
            """
        )
    )
    run = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
    drop = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    done = subprocess.run([*drop, *run], capture_output=True, text=True, cwd=tmp_path)
    assert "2 skipped" in done.stdout, done.stdout + done.stderr
    assert "allows no emulated cluster: " in done.stdout
    assert "Operation not permitted" in done.stdout


def test_the_reason_is_a_sentence_or_nothing():
    reason = unavailable_reason()
    assert reason is None or reason[0].isupper()


# Bad input, and the bound.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hosts": 0}, "cannot be"),
        ({"hosts": 2, "ranks_per_host": 0}, "cannot be"),
        ({"hosts": 2, "ranks_per_host": [1, 2, 3]}, "names 3 hosts where hosts is 2"),
        ({"hosts": 251}, "cannot be"),
        ({"rate": "fast"}, "'fast' is no bandwidth"),
        ({"rate": 0}, "0 is no bandwidth"),
        ({"rate": "200mbyte"}, "no bandwidth"),
        ({"mtu": 100}, "mtu 100"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        EmulatedCluster(**arguments)


def test_unknown_hosts_commands_and_placements_are_named(pair):
    for use in (pair.cut, pair.restore, pair.kill, pair.address, pair.namespace):
        with pytest.raises(UnknownNameError, match=r"'host7'.*Did you mean"):
            use("host7")
    with pytest.raises(ConfigError, match="No command 'no-such-command'"):
        pair.start(["no-such-command"])
    with pytest.raises(ConfigError, match=r"'interleave' is unknown.*'interleaved'"):
        pair.start(python("pass"), placement="interleave")


def test_a_closed_cluster_refuses():
    with pytest.raises(EmulationError, match="not open"):
        EmulatedCluster(hosts=1).run(python("pass"), timeout=1)


def test_lower_bound_of_a_known_case():
    # 64 MiB between 4 hosts at 1 Gbit/s: 1.5 * 536,870,912 bits.
    assert lower_bound(64 * MIB, "1gbit", 4) == pytest.approx(0.805306368)
    assert lower_bound(64 * MIB, "200mbit", 4) == pytest.approx(5 * 0.805306368)
    assert lower_bound(64 * MIB, 10**9, 1) == 0
    with pytest.raises(ConfigError):
        lower_bound(1, "1gbit", 0)


@given(st.integers(1, 2**34), st.integers(1, 10**11), st.integers(2, 1000))
def test_lower_bound_lies_between_one_and_two_passes_of_the_buffer(size, rate, nodes):
    once = size * 8 / rate
    assert once * (1 - 1e-9) <= lower_bound(size, rate, nodes) < 2 * once
    assert lower_bound(size, rate, nodes) < lower_bound(size, rate, nodes + 1)
