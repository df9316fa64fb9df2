"""Settings: leftovers of trials, and timeouts of RDMA."""

import pytest
from ds_nccl_ring.doctor.ranks import check_alike, check_placement
from ds_nccl_ring.doctor.settings import check_leftovers, check_retransmission, nccl_settings
from ds_nccl_ring.placement import Host, Placement
from machine import Machine, problems


def test_files_fill_up_the_environment(tmp_path):
    machine = Machine(tmp_path)
    machine.write("etc/nccl.conf", "# a comment\nNCCL_ALGO=Tree\nNCCL_SOCKET_IFNAME==ens1")
    machine.write("home/you/.nccl.conf", "NCCL_ALGO=Ring\nNCCL_DEBUG=INFO")
    said = nccl_settings(machine.root, {"HOME": "/home/you", "NCCL_DEBUG": "WARN", "PATH": "x"})
    assert said == {"NCCL_ALGO": "Ring", "NCCL_SOCKET_IFNAME": "=ens1", "NCCL_DEBUG": "WARN"}


@pytest.mark.parametrize("name", ["NCCL_ALGO", "NCCL_PROTO", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"])
def test_leftovers_are_named(tmp_path, name):
    (what,) = problems(check_leftovers(tmp_path, {name: "1"}))
    assert what.startswith(f"{name}=1 ")
    assert problems(check_leftovers(tmp_path, {name: "0"})) == []


@pytest.mark.parametrize(("value", "level"), [("INFO", "note"), ("trace", "note"), ("WARN", "ok")])
def test_talking_is_noted(tmp_path, value, level):
    (finding,) = check_leftovers(tmp_path, {"NCCL_DEBUG": value})
    assert finding.level == level


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("NCCL_IB_TIMEOUT", "20", None),
        ("NCCL_IB_TIMEOUT", "18", None),
        ("NCCL_IB_TIMEOUT", "14", "waits 0.067 s"),
        ("NCCL_IB_TIMEOUT", "25", "waits 1.4e+02 s"),
        ("NCCL_IB_TIMEOUT", "32", "none of 1 to 31"),
        ("NCCL_IB_TIMEOUT", "long", "none of 1 to 31"),
        ("NCCL_IB_RETRY_CNT", "7", None),
        ("NCCL_IB_RETRY_CNT", "3", "sooner"),
        ("NCCL_IB_RETRY_CNT", "8", "none of 0 to 7"),
    ],
)
def test_retransmission(tmp_path, name, value, wrong):
    found = problems(check_retransmission(tmp_path, {name: value}))
    assert len(found) == (wrong is not None)
    assert all(wrong in what for what in found)


def test_nothing_set_is_nothing_wrong(tmp_path):
    assert check_retransmission(tmp_path, {}) == []
    assert check_leftovers(tmp_path, {})[0].level == "ok"


def test_hosts_are_set_alike():
    said = [{"NCCL_IB_GID_INDEX": "3", "NCCL_HOSTID": "a"}, {"NCCL_HOSTID": "b"}]
    (what,) = problems(check_alike(["a", "b"], said))
    assert what == "Hosts differ in NCCL_IB_GID_INDEX: 3 on a, unset on b."
    assert check_alike(["a", "b"], [said[0], said[0]]) == []


def test_what_is_noted_of_a_placement_is_told():
    hosts = (Host("a", (0, 2), "10.0.0.1"), Host("b", (1, 3), "10.0.0.2"))
    notes = (
        "LOCAL_WORLD_SIZE says 4 on a, where 2 ranks are",
        "ranks are interleaved over hosts by the launcher; both levels follow hosts all the same",
    )
    found = check_placement(Placement(hosts, "DS_NODE", notes))
    assert [finding.level for finding in found] == ["ok", "problem", "problem"]
    assert "4 ranks on 2 hosts, proved by DS_NODE" in found[0].what
    assert [one.level for one in check_placement(Placement(hosts, "DS_NODE"))] == ["ok"]
