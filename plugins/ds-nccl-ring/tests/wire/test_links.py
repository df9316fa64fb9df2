"""Connections between hosts, and at the door of a host."""

import gc
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch.distributed as dist
from ds_nccl_ring.collectives import Site
from ds_nccl_ring.joining import Terms, join
from ds_nccl_ring.local import meeting
from ds_nccl_ring.local.segment import SMALLEST_CHUNK
from ds_nccl_ring.wire.links import connect
from several import contiguous

from ds_core.errors import RefusedError

TOKEN = b"0123456789abcdef"


def together(*calls):
    """What each call returned, all made at a time."""
    found = [None] * len(calls)

    def run(number, call):
        try:
            found[number] = call()
        except RefusedError as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def close(links):
    for link in links.values():
        link.close()


def test_each_is_linked_to_each():
    store, where = dist.HashStore(), contiguous(4, 1)
    found = together(
        *(
            lambda rank=rank: connect(
                store, "x", rank, {0, 1, 2, 3} - {rank}, where, TOKEN, timeout=20
            )
            for rank in range(4)
        )
    )
    for rank, links in enumerate(found):
        for peer, link in links.items():
            link.sendall(bytes([rank, peer]))
    for rank, links in enumerate(found):
        for peer, link in links.items():
            assert link.recv(2) == bytes([peer, rank])
    for links in found:
        close(links)


def test_a_stranger_is_not_taken_for_a_rank():
    store, where = dist.HashStore(), contiguous(2, 1)

    def stranger():
        store.wait(["x/0"])
        port, _, address = store.get("x/0").decode().partition(" ")
        with socket.create_connection((address, int(port))) as one:
            one.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            with suppress(ConnectionResetError):
                assert one.recv(1) == b""
        return connect(store, "x", 1, [0], where, TOKEN, timeout=20)

    found = together(lambda: connect(store, "x", 0, [1], where, TOKEN, timeout=20), stranger)
    found[0][1].sendall(b"!")
    assert found[1][0].recv(1) == b"!"
    for links in found:
        close(links)


def test_who_does_not_come_is_named_with_its_host():
    store, where = dist.HashStore(), contiguous(3, 1)
    with pytest.raises(RefusedError, match=r"Ranks 1 and 2 on b, c did not connect to rank 0"):
        connect(store, "x", 0, [1, 2], where, TOKEN, timeout=0.3)
    with pytest.raises(RefusedError, match=r"Rank 1 on host b did not arrive within 0.3 s"):
        connect(store, "y", 2, [1], where, TOKEN, timeout=0.3)


def test_who_cannot_be_reached_is_named_with_its_address():
    store, where = dist.HashStore(), contiguous(2, 1)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    store.set("x/0", f"{port} 127.0.0.1")
    with pytest.raises(RefusedError, match=f"cannot connect to rank 0 on host a at .* port {port}"):
        connect(store, "x", 1, [0], where, TOKEN, timeout=5)


def test_a_host_meets_and_shares_descriptors():
    store, host = dist.HashStore(), contiguous(1, 3).hosts[0]
    descriptors = [os.memfd_create("test") for _ in range(4)]
    os.write(descriptors[2], b"shared")
    found = together(
        lambda: meeting.receive(store, host, TOKEN, descriptors, 20),
        lambda: meeting.come(store, host, TOKEN, 1, 20),
        lambda: meeting.come(store, host, TOKEN, 2, 20),
    )
    assert set(found[0]) == {1, 2}
    for rank in (1, 2):
        way, theirs = found[rank]
        assert os.pread(theirs[2], 6, 0) == b"shared"
        way.sendall(bytes([rank]))
        assert found[0][rank].recv(1) == bytes([rank])
        way.close()
        for descriptor in theirs:
            os.close(descriptor)
    close(found[0])
    for descriptor in descriptors:
        os.close(descriptor)


def test_who_ends_at_the_door_is_named():
    store, host = dist.HashStore(), contiguous(1, 2).hosts[0]
    descriptors = [os.memfd_create("test") for _ in range(3)]

    def passing():
        store.wait([f"door/{host.ranks[0]}"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as way:
            way.connect(meeting._address(host, TOKEN))
            way.shutdown(socket.SHUT_RD)  # nothing can be sent to it, as if it were dead
            way.sendall(TOKEN + (1).to_bytes(4, "big"))

    error, _ = together(lambda: meeting.receive(store, host, TOKEN, descriptors, 20), passing)
    assert "Rank 1 on host a ended while it joined" in str(error)
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize(
    "where", [contiguous(1, 2), contiguous(2, 1), contiguous(2, 2)], ids=["a host", "hosts", "both"]
)
def test_nothing_stays_open_where_somebody_does_not_come(where):
    store, terms = dist.HashStore(), Terms(TOKEN, SMALLEST_CHUNK)
    *coming, _ = range(where.size)
    before = opened()

    def joining(rank):
        host = where.hosts.index(where.host_of(rank))
        site = Site(
            tuple(one.ranks for one in where.hosts),
            host,
            where.hosts[host].ranks.index(rank),
            len(where.hosts[0].ranks),
        )
        return lambda: join(store, rank, site, where, terms, 0.5)

    assert {type(error) for error in together(*map(joining, coming))} == {RefusedError}
    gc.collect()  # tracebacks
    assert opened() == before


def opened():
    """How many of this process's descriptors are memory, bells and connections."""
    kinds = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            kinds.append(str(entry.readlink()))
    return sum("ds-ring" in kind or "eventfd" in kind or "socket" in kind for kind in kinds)


def test_who_does_not_come_to_its_host_is_named():
    store, host = dist.HashStore(), contiguous(1, 2).hosts[0]
    with pytest.raises(RefusedError, match="Rank 0 on host a did not arrive"):
        meeting.come(store, host, TOKEN, 1, 0.3)
    with pytest.raises(RefusedError, match="Rank 1 on host a did not come to rank 0"):
        meeting.receive(store, host, TOKEN, [0, 0, 0], 0.3)
    # Its door is closed again: containers without a common network look like that.
    began = time.monotonic()
    with pytest.raises(RefusedError, match=r"Rank 1 cannot reach rank 0 on host a.*DS_NODE"):
        meeting.come(store, host, TOKEN, 1, 20)
    assert time.monotonic() - began < 10
