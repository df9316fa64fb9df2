"""How those who are left meet again: here as threads, each with a socket of its own."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ds_nccl_ring import contacts, roster
from ds_nccl_ring.roster import Roster
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore

from ds_core.errors import RefusedError


def rosters(size, timeout=20.0):
    store = HashStore()
    with ThreadPoolExecutor(size) as threads:
        return list(
            threads.map(lambda rank: Roster(store, rank, size, timeout=timeout), range(size))
        )


def meet(left):
    with ThreadPoolExecutor(len(left)) as threads:
        futures = [threads.submit(one.meet) for one in left]
        return [future.exception() or future.result() for future in futures]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6).filter(any))
def test_those_who_are_left_have_one_store_and_ranks_in_order(living):
    everyone = rosters(len(living))
    for one, lives in zip(everyone, living, strict=True):
        if not lives:
            one.close()  # as its kernel does when a process dies
    left = [one for one, lives in zip(everyone, living, strict=True) if lives]
    found = meet(left)
    seats = [one.seat for one in left]
    assert [(rank, size) for _, rank, size in found] == [(i, len(left)) for i in range(len(left))]
    found[0][0].set("said", "by the first")
    assert all(store.get("said") == b"by the first" for store, *_ in found)
    assert all(one.members == seats for one in left)


def test_one_that_is_slow_is_waited_for_however_short_its_queue_is(monkeypatch):
    monkeypatch.setattr(roster, "_BACKLOG", 4)
    monkeypatch.setattr(contacts, "PROBE", 0.1)
    first, slow = rosters(2)
    with ThreadPoolExecutor() as threads:
        meeting = threads.submit(first.meet)
        time.sleep(1.5)
        assert slow.meet()[1:] == (1, 2)
        assert meeting.result()[1:] == (0, 2)


def test_a_lost_packet_makes_nobody_a_second_leader(monkeypatch):
    everyone = rosters(3)
    connect, called = socket.create_connection, set()

    def once_lost(address, timeout):
        if address not in called:
            called.add(address)
            raise TimeoutError
        return connect(address, timeout)

    monkeypatch.setattr(contacts.socket, "create_connection", once_lost)
    assert [found[1:] for found in meet(everyone)] == [(0, 3), (1, 3), (2, 3)]


def test_a_forked_child_does_not_answer_for_a_dead_member():
    first, second = rosters(2, timeout=5.0)
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        first.close()
        assert second.meet()[1:] == (0, 1)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_losses_one_after_the_other():
    left = rosters(4)
    for _ in range(3):
        left[0].close()
        left = left[1:]
        assert [found[1:] for found in meet(left)] == [(i, len(left)) for i in range(len(left))]


@pytest.fixture
def silence():
    """An address that neither accepts nor refuses: a listener whose queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    callers = []
    for _ in range(8):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(listener.getsockname())
        callers.append(caller)
    yield listener.getsockname()
    for one in [listener, *callers]:
        one.close()


def unreachable(everyone, seats, address):
    for one in everyone:
        for seat in seats:
            one._places[seat] = address


@pytest.mark.parametrize(("size", "silent"), [(3, (2,)), (3, (0,)), (2, (1,))])
def test_the_larger_side_or_the_one_with_the_first_rank_goes_on(size, silent, silence, monkeypatch):
    monkeypatch.setattr(contacts, "PROBE", 0.1)
    everyone = rosters(size)
    left = [one for one in everyone if one.seat not in silent]
    unreachable(left, silent, silence)
    assert [found[2] for found in meet(left)] == [len(left)] * len(left)


@pytest.mark.parametrize(("size", "silent"), [(3, (0, 1)), (2, (0,))])
def test_the_other_side_does_not(size, silent, silence, monkeypatch):
    monkeypatch.setattr(contacts, "PROBE", 0.1)
    everyone = rosters(size)
    left = [one for one in everyone if one.seat not in silent]
    unreachable(left, silent, silence)
    for error in meet(left):
        assert isinstance(error, RefusedError)
        assert "may have gone on without this side" in str(error)
