"""Ranks that die, leave, stall or never come: what the others are told."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from ds_nccl_ring import group as group_module
from ds_nccl_ring.collectives import AllReduce
from ds_nccl_ring.errors import ClosedError, PeerLostError, StalledError
from ds_nccl_ring.group import Group
from several import KIB, Ranks, contiguous, run

from ds_core.errors import DsError, RefusedError

pytestmark = pytest.mark.processes

GENEROUS = 10.0
"""Seconds; what is measured here takes less than two."""


def killed(group):
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def told(group, future):
    """What a rank is told that waits for others, and how soon after the last one died."""
    with pytest.raises(PeerLostError) as caught:
        future.wait()
    with pytest.raises(PeerLostError):
        group.all_reduce(torch.ones(5), algorithm="hierarchical").wait()
    with pytest.raises(PeerLostError):
        group.run_flat(lambda flat: flat.barrier()).wait()
    return time.time(), str(caught.value), caught.value.ranks


def once(happened):
    """Whether it happens soon."""
    deadline = time.monotonic() + GENEROUS
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(happened())


def forever(group, algorithm):
    tensor = torch.ones(400_000)
    while True:
        group.all_reduce(tensor, algorithm=algorithm).wait()


@pytest.mark.parametrize("algorithm", ["hierarchical", "hierarchical-int8", "flat"])
@pytest.mark.parametrize("victim", [0, 3, 5])
def test_a_rank_killed_between_collectives_is_named_by_all_others(algorithm, victim):
    def job(group):
        if group.rank == victim:
            killed(group)
        while True:
            future = group.all_reduce(torch.ones(400_000), algorithm=algorithm)
            if group.rank != victim:
                return told(group, future)

    ranks = Ranks(contiguous(3, 2), job)
    ranks.processes[victim].join()
    died = time.time()
    for when, text, lost in ranks.results(without=[victim]).values():
        assert victim in lost
        assert f"rank {victim} on host {'abc'[victim // 2]} is gone" in text
        assert when - died < GENEROUS


def test_who_waits_in_a_flat_operation_for_a_rank_that_lives_is_freed_too():
    def job(group):
        if group.rank == 2:
            killed(group)
        if group.rank == 0:
            future = group.run_flat(lambda flat: flat.recv([torch.ones(5)], 1, 0))
            return told(group, future)[0]
        assert once(lambda: group.lost)
        time.sleep(5)  # and only then closes its connections
        return time.time()

    results = Ranks(contiguous(3, 1), job).results(without=[2])
    assert results[0] < results[1] - 1


def test_a_rank_killed_in_the_middle_of_a_collective_leaves_nothing_behind():
    def job(group):
        if group.rank == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.4)  # SIGALRM ends a process that takes no care
            forever(group, "hierarchical")
        try:
            forever(group, "hierarchical")
        except PeerLostError as error:
            lost = error.ranks
        before = held()
        group.close()
        return lost, before, held()

    memory, bells = "/memfd:ds-ring (deleted)", "anon_inode:[eventfd]"
    for found in Ranks(contiguous(2, 2), job).results(without=[1]).values():
        # What has no name goes with the last process that maps it.
        assert found == ((1,), {memory, bells}, {memory})


def held():
    """What this process has open of what the ranks of a host share."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.add(str(entry.readlink()))
    return {one for one in found if "ds-ring" in one or "eventfd" in one}


def test_all_ranks_of_a_lost_host_are_named():
    def job(group):
        if group.rank in (2, 3):
            killed(group)
        with pytest.raises(PeerLostError):
            forever(group, "hierarchical")
        assert once(lambda: set(group.lost) == {2, 3})

    Ranks(contiguous(3, 2), job).results(without=[2, 3])


def test_sockets_that_others_open_meanwhile_stay_open(tmp_path):
    def job(group, path):
        pairs, done = [], threading.Event()

        def meanwhile():
            with socket.create_server(("127.0.0.1", 0)) as door:
                while not done.is_set() and len(pairs) < 200:
                    one = socket.create_connection(door.getsockname())
                    pairs.append((one, door.accept()[0]))
                    time.sleep(0.005)

        other = threading.Thread(target=meanwhile)
        other.start()
        store = torch.distributed.FileStore(path, 2)
        second = Group(store, group.rank, 2, group.placement, group.plan, timeout=60)
        done.set()
        other.join()
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(PeerLostError):
            second.all_reduce(torch.ones(5), algorithm="flat").wait()
        assert len(pairs) > 1
        for one, two in pairs:
            one.sendall(b"!")
            assert two.recv(1) == b"!"
            one.close()
            two.close()
        second.close()

    Ranks(contiguous(2, 1), job, str(tmp_path / "store")).results(without=[1])


def test_a_forked_child_does_not_keep_a_dead_rank_alive():
    def job(group):
        if group.rank == 1:
            child = os.fork()
            if not child:
                time.sleep(3 * GENEROUS)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        future = group.all_reduce(torch.ones(400_000), algorithm="hierarchical")
        return told(group, future)[2]

    assert Ranks(contiguous(2, 1), job).results(without=[1])[0] == (1,)


@pytest.mark.parametrize("hosts", [(2, 1), (1, 2), (1, 3), (2, 2)])
def test_who_closes_is_not_lost_but_what_waits_for_it_fails(hosts):
    last = hosts[0] * hosts[1] - 1

    def job(group):
        group.all_reduce(torch.ones(100_000), algorithm="hierarchical").wait()
        if group.rank == last:
            group.close()
            group.close()
            with pytest.raises(ClosedError):
                group.all_reduce(torch.ones(100_000), algorithm="hierarchical").wait()
            return {}
        time.sleep(0.3)
        before = group.lost
        with pytest.raises(PeerLostError, match=f"rank {last} on host . is gone"):
            group.all_reduce(torch.ones(400_000), algorithm="hierarchical").wait()
        return before

    assert run(contiguous(*hosts), job) == [{}] * (last + 1)


@pytest.mark.parametrize("hosts", [(2, 1), (1, 2)])
def test_who_waits_too_long_names_whom_it_waited_for(hosts):
    def job(group):
        if group.rank == 1:
            time.sleep(3)
            return ""
        with pytest.raises(StalledError) as caught:
            group.all_reduce(torch.ones(400_000), algorithm="hierarchical").wait()
        return str(caught.value)

    text = run(contiguous(*hosts), job, timeout=1.0, chunk=64 * KIB)[0]
    assert "waited for rank 1 on host" in text


def test_a_rank_that_fails_tells_the_others_why():
    def job(group):
        if group.rank == 0:
            group._failure.set(DsError("The disk is on fire."))
            time.sleep(0.5)
            return ""
        with pytest.raises(PeerLostError) as caught:
            group.all_reduce(torch.ones(400_000), algorithm="hierarchical").wait()
        return str(caught.value)

    for text in run(contiguous(2, 2), job)[1:]:
        assert "rank 0 on host a is gone: it failed. The disk is on fire" in text


def test_an_error_in_the_thread_that_reduces_reaches_who_waits():
    class Unwilling(AllReduce):
        def finish(self):
            raise MemoryError("no room")

    def job(group):
        if group.rank == 0:
            group_module.AllReduce = Unwilling
        tensors = [torch.ones(100_000) for _ in range(2)]
        futures = [group.all_reduce(one, algorithm="hierarchical") for one in tensors]
        with pytest.raises(DsError, match="no room"):
            torch.futures.wait_all(futures)

    Ranks(contiguous(2, 1), job).results(timeout=20)


def test_a_rank_that_never_comes_is_named():
    import torch.distributed as dist
    from ds_nccl_ring.plan import TopologyPlan

    where = contiguous(2, 1)
    store = dist.HashStore()
    with pytest.raises(RefusedError, match="Rank 1 did not arrive"):
        Group(store, 0, 2, where, TopologyPlan.of(where), timeout=0.3)
