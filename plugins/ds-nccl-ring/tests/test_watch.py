"""Who hears of a loss, in one process: a watch for each rank."""

import itertools
import socket
import threading
import time

import pytest
from ds_nccl_ring.watch import CLOSED, Watch
from several import contiguous, placement

SECONDS = 10.0


def tcp():
    with socket.create_server(("127.0.0.1", 0)) as door:
        one = socket.create_connection(door.getsockname())
        return one, door.accept()[0]


class Watches:
    """Watches of all ranks, and the ends of their connections."""

    def __init__(self, where, start=True):
        ends = {rank: {} for rank in range(where.size)}
        leaders = [host.ranks[0] for host in where.hosts]
        for host in where.hosts:
            for rank in host.ranks[1:]:
                ends[host.ranks[0]][rank], ends[rank][host.ranks[0]] = socket.socketpair()
        for a, b in itertools.combinations(leaders, 2):
            ends[a][b], ends[b][a] = tcp()
        self.ends = ends
        self.closed_links = {rank: [] for rank in ends}
        self.news = {rank: threading.Event() for rank in ends}
        self.watches = {
            rank: Watch(
                where,
                rank,
                ends[rank],
                lambda rank=rank: self.closed_links[rank],
                self.news[rank].set,
            )
            for rank in ends
        }
        if start:
            self.start()

    def start(self):
        for watch in self.watches.values():
            watch.start()

    def die(self, rank):
        """As a process does: its connections are closed, and nothing is said."""
        watch = self.watches.pop(rank)
        watch._say = lambda *_: None
        watch.close()

    def hear(self):
        """What each of the living knows, once it knows something."""
        for rank in self.watches:
            assert self.news[rank].wait(SECONDS), f"rank {rank} heard nothing"
        return [watch.lost for watch in self.watches.values()]

    def close(self):
        for watch in self.watches.values():
            watch.close()


@pytest.fixture
def watches():
    made = []

    def make(where, **options):
        made.append(Watches(where, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("victim", [0, 1, 3, 4])
def test_all_others_hear_of_a_death_and_of_no_other(watches, victim):
    all_ranks = watches(placement([0, 2, 4], [1, 3, 5]))
    all_ranks.die(victim)
    assert all_ranks.hear() == [{victim: CLOSED}] * 5


def test_news_that_comes_before_the_start_is_told_after_it(watches):
    all_ranks = watches(contiguous(2, 2), start=False)
    all_ranks.watches[0].start()
    all_ranks.watches[0].report({0: "it failed"})
    assert all_ranks.news[0].wait(SECONDS)
    assert not all_ranks.news[2].wait(0.3)
    for rank in (1, 2, 3):
        all_ranks.watches[rank].start()
    assert all_ranks.hear() == [{0: "it failed"}] * 4


def test_all_of_a_host_hear_who_left(watches):
    all_ranks = watches(contiguous(2, 3))
    all_ranks.watches.pop(4).close()
    all_ranks.die(1)
    all_ranks.hear()
    assert [watch.left for watch in all_ranks.watches.values()] == [set(), set(), {4}, {4}]


def test_a_goodbye_is_no_loss(watches):
    all_ranks = watches(contiguous(2, 2))
    all_ranks.watches.pop(3).close()
    all_ranks.watches.pop(2).close()
    all_ranks.die(1)
    assert all_ranks.hear() == [{1: CLOSED}]


def test_a_report_reaches_all(watches):
    all_ranks = watches(contiguous(3, 2))
    all_ranks.watches[5].report({5: "it failed"})
    assert all_ranks.hear() == [{5: "it failed"}] * 6


def test_ends_of_links_are_looked_at_once_something_is_wrong(watches):
    all_ranks = watches(contiguous(3, 2))
    all_ranks.closed_links[1] = [3]
    all_ranks.die(2)
    del all_ranks.watches[3]
    all_ranks.hear()
    deadline = time.monotonic() + SECONDS
    while 3 not in all_ranks.watches[1].lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all_ranks.watches[1].lost == {2: CLOSED, 3: CLOSED}


def test_a_reset_is_a_death_too(watches):
    all_ranks = watches(contiguous(2, 2))
    for end in all_ranks.ends[2].values():
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    all_ranks.die(2)
    assert all_ranks.hear() == [{2: CLOSED}] * 3
