"""Which ranks share a host: what is proved, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from ds_nccl_ring.placement import Placement, prove
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore

from ds_core.errors import RefusedError


def proved(said, timeout=20.0, absent=()):
    """What ranks in threads find out; `said` is each one's variables and folder in memory."""
    store = HashStore()

    def rank(number):
        variables, folder = said[number]
        return prove(
            store,
            number,
            len(said),
            timeout=timeout,
            environment=variables,
            **({} if folder is None else {"shared_memory": folder}),
        )

    with ThreadPoolExecutor(len(said)) as threads:
        futures = {n: threads.submit(rank, n) for n in range(len(said)) if n not in absent}
        found = [future.result() for future in futures.values()]
    assert all(one == found[0] for one in found)
    return found[0]


def parts(labels):
    """Ranks with the same label, ordered by the lowest."""
    groups = {}
    for rank, label in enumerate(labels):
        groups.setdefault(label, []).append(rank)
    return [tuple(ranks) for ranks in groups.values()]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_ds_node_decides(labels):
    found = proved([({"DS_NODE": label}, None) for label in labels])
    assert found.proof == "DS_NODE"
    assert [host.ranks for host in found.hosts] == parts(labels)
    assert all(labels[rank] == host.name for host in found.hosts for rank in host.ranks)
    assert found.size == len(labels)
    assert all(rank in found.host_of(rank).ranks for rank in range(len(labels)))


@settings(max_examples=15, deadline=None)
@given(labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_only_ranks_that_read_each_others_memory_share_a_host(labels, tmp_path_factory):
    folders = {label: tmp_path_factory.mktemp(label) for label in set(labels)}
    found = proved([({}, folders[label]) for label in labels])
    assert found.proof == "shared memory"
    assert [host.ranks for host in found.hosts] == parts(labels)
    assert len({host.name for host in found.hosts}) == len(found.hosts)
    assert not any(list(folder.iterdir()) for folder in folders.values())


def test_containers_of_one_hostname_are_told_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = proved([({}, tmp_path / "a"), ({}, tmp_path / "b")])
    first, second = found.hosts
    assert second.name == f"{first.name}#2"


def test_memory_that_cannot_be_written_proves_nothing(tmp_path):
    found = proved([({}, tmp_path / "missing")] * 2)
    assert [host.ranks for host in found.hosts] == [(0,), (1,)]
    assert any("cannot write" in note for note in found.notes)


def test_ds_node_on_some_ranks_only_is_refused():
    with pytest.raises(RefusedError, match="Ranks 1 and 2 of 4 have no DS_NODE"):
        proved([({"DS_NODE": "a"}, None), ({}, None), ({}, None), ({"DS_NODE": "a"}, None)])


def test_ranks_that_never_arrive_are_named():
    with pytest.raises(RefusedError, match=r"Rank 2 did not arrive within 0\.5 s"):
        proved([({"DS_NODE": "a"}, None)] * 3, timeout=0.5, absent=(2,))


@pytest.mark.parametrize(
    ("labels", "local", "told"),
    [
        ("aabb", "2", []),
        ("abab", "2", ["interleaved"]),
        ("aaab", "", ["1 to 3 ranks"]),
        ("aabb", "4", ["LOCAL_WORLD_SIZE says 4 on a", "LOCAL_WORLD_SIZE says 4 on b"]),
    ],
)
def test_notes_say_what_is_unusual(labels, local, told):
    variables = [{"DS_NODE": label, "LOCAL_WORLD_SIZE": local} for label in labels]
    found: Placement = proved([(one, None) for one in variables])
    assert len(found.notes) == len(told)
    assert all(part in note for part, note in zip(told, found.notes, strict=True))
