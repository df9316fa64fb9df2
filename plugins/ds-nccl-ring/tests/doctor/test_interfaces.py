"""Interfaces: those that variables mean, and their links."""

import pytest
from ds_nccl_ring.doctor.interfaces import (
    check_links,
    check_named,
    check_rendezvous,
    matching,
    usual,
)
from machine import Machine, problems


@pytest.fixture
def machine(tmp_path):
    return (
        Machine(tmp_path)
        .interface("lo", state="unknown", mtu=65536)
        .interface("eth0", mtu=9000, speed=100000)
        .interface("eth1", state="down")
        .interface("docker0")
    )


PRESENT = ["docker0", "eth0", "eth1", "lo"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("eth", ["eth0", "eth1"]),
        ("=eth0", ["eth0"]),
        ("=eth0,lo", ["eth0", "lo"]),
        ("=eth", []),
        ("^docker,lo", ["eth0", "eth1"]),
        ("^=eth", PRESENT),
        ("ib", []),
    ],
)
def test_patterns_mean_what_they_mean_to_nccl(pattern, meant):
    assert matching(pattern, PRESENT) == meant


@pytest.mark.parametrize(
    ("variable", "value", "wrong"),
    [
        ("NCCL_SOCKET_IFNAME", "=eth0", None),
        ("NCCL_SOCKET_IFNAME", "ib", "names no interface"),
        ("NCCL_SOCKET_IFNAME", "lo", "loopback"),
        ("NCCL_SOCKET_IFNAME", "eth1", "eth1, which is down"),
        ("GLOO_SOCKET_IFNAME", "eth0", None),
        ("GLOO_SOCKET_IFNAME", "eth", "names no interface"),  # gloo knows no prefixes
        ("GLOO_SOCKET_IFNAME", "eth0,eth7", "names no interface"),
        ("GLOO_SOCKET_IFNAME", "lo", "loopback"),
    ],
)
def test_named_interfaces_exist_are_up_and_reach_others(machine, variable, value, wrong):
    found = problems(check_named(machine.root, {variable: value}))
    assert len(found) == (wrong is not None)
    assert all(wrong in what and f"{variable}={value}" in what for what in found)


def test_the_mend_names_the_interface_to_use(machine):
    (finding,) = check_named(machine.root, {"NCCL_SOCKET_IFNAME": "lo"})
    assert "eth0" in finding.mend


def test_only_links_that_would_be_used_are_told(machine):
    assert usual(machine.root) == ["eth0"]
    (finding,) = check_links(machine.root, {})
    assert finding.level == "ok"
    assert "MTU 9000, 100000 Mbit/s" in finding.what


def test_a_bonds_parts_are_not_used_themselves(machine):
    machine.interface("bond0", mtu=9000, speed=200000)
    machine.write("sys/class/net/eth0/master/operstate", "up")
    assert usual(machine.root) == ["bond0"]


def test_small_packets_on_a_fast_link_and_unequal_links_are_noted(machine):
    machine.interface("eth2", mtu=1500, speed=25000)
    notes = [one.what for one in check_links(machine.root, {}) if one.level == "note"]
    assert any("eth2 is up, MTU 1500" in what for what in notes)
    assert any("differ in mtu: 1500 and 9000" in what for what in notes)
    assert any("differ in speed: 25000 and 100000" in what for what in notes)
    assert len(check_links(machine.root, {"NCCL_SOCKET_IFNAME": "=eth0"})) == 1


def test_a_host_without_a_network_is_noted(tmp_path):
    machine = Machine(tmp_path).interface("lo", state="unknown")
    (finding,) = check_links(machine.root, {})
    assert finding.level == "note"
    assert "reaches no other" in finding.what


@pytest.mark.parametrize(
    ("master", "ranks", "local", "wrong"),
    [
        ("127.0.0.1", "8", "4", True),
        ("127.0.0.1", "4", "4", False),  # a single host
        ("10.0.0.1", "8", "4", False),
        ("::1", "8", "4", True),
        ("2001:db8::1", "8", "4", False),
        ("", "", "", False),
    ],
)
def test_other_hosts_are_not_sent_to_the_loopback(tmp_path, master, ranks, local, wrong):
    told = {"MASTER_ADDR": master, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": local}
    assert bool(problems(check_rendezvous(tmp_path, told))) is wrong
