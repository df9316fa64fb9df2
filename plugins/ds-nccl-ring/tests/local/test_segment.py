"""Memory that the ranks of a host share."""

import os

import pytest
import torch
from ds_nccl_ring.local.segment import (
    DEPTH,
    SMALLEST_CHUNK,
    Segment,
    fitting_chunk,
    free_memory,
)
from ds_nccl_ring.local.words import BELL, Stage, Words
from hypothesis import given
from hypothesis import strategies as st

from ds_core.errors import RefusedError


@pytest.fixture
def descriptor():
    made = Segment.create(3, 1000)
    yield made
    os.close(made)


def test_what_one_process_writes_others_read_in_no_other_slot(descriptor):
    mine, theirs = Segment(descriptor, 3, 1000), Segment(descriptor, 3, 1000)
    slots = [(rank, number) for rank in range(3) for number in range(DEPTH)]
    for value, (rank, number) in enumerate(slots, 1):
        mine.slot(rank, number).fill_(value)
    for value, (rank, number) in enumerate(slots, 1):
        assert torch.all(theirs.slot(rank, number + DEPTH) == value)
    assert bytes(theirs.words) == bytes(Words.size(3))


@given(st.integers(SMALLEST_CHUNK, 1 << 26), st.integers(1, 64), st.integers(0, 1 << 34))
def test_a_chunk_fits_into_half_of_what_is_free_or_is_refused(wanted, ranks, free):
    try:
        chunk = fitting_chunk(wanted, ranks, free, "a")
    except RefusedError:
        assert SMALLEST_CHUNK * ranks * DEPTH * 2 > free - 1
    else:
        assert SMALLEST_CHUNK <= chunk <= wanted
        assert chunk * ranks * DEPTH * 2 <= free
        if chunk < wanted:
            assert 2 * wanted * ranks * DEPTH > free


def test_too_little_memory_is_refused_in_a_sentence():
    with pytest.raises(RefusedError, match=r"4 ranks need 1536 KiB .* 1024 KiB are free on host b"):
        fitting_chunk(1 << 20, 4, 1 << 20, "b")


def test_a_containers_limit_counts_where_it_is_less(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8000 kB\n")
    assert free_memory(tmp_path) == 8000 << 10
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 8000 << 10
    (group / "memory.max").write_text("5000\n")
    assert free_memory(tmp_path) == 4000
    # Files that were read long ago fill a container's memory only as long as nobody wants it.
    (group / "memory.stat").write_text("anon 300\ninactive_file 600\nactive_file 100\n")
    assert free_memory(tmp_path) == 4600


def test_words_tell_who_is_behind_and_ring_the_others():
    bells = [os.eventfd(0, BELL) for _ in range(3)]
    memory = memoryview(bytearray(Words.size(3)))
    ranks = [Words(memory, me, bells) for me in range(3)]
    ranks[0].advance(Stage.FILLED, 2)
    ranks[2].advance(Stage.FILLED, 1)
    ranks[1].advance(Stage.LEFT, 7)
    assert ranks[1].behind(Stage.FILLED, 1, 3) == 1
    assert ranks[1].behind(Stage.FILLED, 2, 1) is None
    ranks[1].advance(Stage.FILLED, 1)
    assert ranks[0].behind(Stage.FILLED, 1, 3) is None
    assert ranks[0].behind(Stage.FILLED, 2, 3) == 1
    assert [os.eventfd_read(bell) for bell in bells] == [3, 2, 3]
    for bell in bells:
        os.close(bell)
