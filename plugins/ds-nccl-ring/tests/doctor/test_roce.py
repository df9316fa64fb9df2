"""RoCE: GID tables as drivers fill them, good ones and broken ones."""

import pytest
from ds_nccl_ring.doctor.roce import (
    check_addresses,
    check_ports,
    check_rails,
    check_traffic_class,
)
from machine import LINK, V1, V2, Machine, mapped, problems, usual


@pytest.fixture
def machine(tmp_path):
    """Two ports, each on a rail of its own."""
    return (
        Machine(tmp_path)
        .port("mlx5_0", usual("10.1.0.7"), forced=106)
        .port("mlx5_1", usual("10.2.0.7"), forced=106)
    )


def addresses(machine, **environment):
    return problems(check_addresses(machine.root, environment))


def test_a_good_table_is_ok_with_and_without_an_index(machine):
    assert addresses(machine) == []
    assert addresses(machine, NCCL_IB_GID_INDEX="-1") == []
    assert addresses(machine, NCCL_IB_GID_INDEX="3") == []


@pytest.mark.parametrize(
    ("index", "wrong"),
    [
        ("0", "fe80::ac0:ebff:fe12:3456 of RoCE v1"),
        ("1", "it is link-local"),
        ("2", "10.1.0.7 of RoCE v1: no router forwards"),
        ("7", "is empty on mlx5_0 port 1, mlx5_1 port 1"),
        ("three", "is no number"),
    ],
)
def test_an_index_that_routers_do_not_forward_is_a_problem(machine, index, wrong):
    (finding,) = check_addresses(machine.root, {"NCCL_IB_GID_INDEX": index})
    assert finding.level == "problem"
    assert wrong in finding.what
    assert "or set 3" in finding.mend


def test_an_index_means_the_same_on_all_ports(tmp_path):
    six = "2001:0db8:0000:0000:0000:0000:0000:0007"
    machine = Machine(tmp_path).port("mlx5_0", usual("10.1.0.7"))
    machine.port("mlx5_1", [(LINK, V1), (LINK, V2), (six, V1), (six, V2), *usual("10.2.0.7")[2:]])
    (what,) = addresses(machine, NCCL_IB_GID_INDEX="3")
    assert "IPv4 on some ports and of IPv6 on others" in what
    assert addresses(machine) == []  # NCCL finds 3 on one and 5 on the other


def test_without_an_address_nothing_is_routable(tmp_path):
    machine = Machine(tmp_path).port("mlx5_0", usual("10.1.0.7"))
    machine.port("mlx5_1", [(LINK, V1), (LINK, V2), None, None])
    (what,) = addresses(machine)
    assert "mlx5_1 port 1 has no routable address" in what


def test_ports_that_are_down_or_infiniband_or_excluded_do_not_count(tmp_path):
    machine = Machine(tmp_path).port("mlx5_0", usual("10.1.0.7"))
    machine.port("mlx5_1", [(LINK, V1)], state="1: DOWN")
    machine.port("mlx5_2", [(LINK, "IB/RoCE v1")], layer="InfiniBand")
    machine.port("mlx5_3", [(LINK, V1)])
    assert addresses(machine, NCCL_IB_HCA="^mlx5_3") == []
    assert addresses(machine, NCCL_IB_HCA="=mlx5_0:1,mlx5_1") == []
    assert "mlx5_3" in addresses(machine)[0]


def test_roce_v1_by_setting_is_a_problem(machine):
    assert "RoCE v1" in addresses(machine, NCCL_IB_ROCE_VERSION_NUM="1")[0]


def test_ports_are_active(machine, tmp_path):
    assert problems(check_ports(machine.root, {})) == []
    assert check_ports(tmp_path / "bare", {})[0].level == "ok"
    assert "means no RDMA port" in problems(check_ports(machine.root, {"NCCL_IB_HCA": "bnxt"}))[0]
    machine.port("mlx5_0", [], state="1: DOWN")
    assert check_ports(machine.root, {})[0].level == "note"
    machine.port("mlx5_1", [], state="2: INIT")
    assert "None of 2" in problems(check_ports(machine.root, {}))[0]


def test_the_traffic_class_agrees_with_what_devices_force(machine):
    (finding,) = check_traffic_class(machine.root, {})
    assert "traffic class 106, DSCP 26" in finding.what
    assert problems(check_traffic_class(machine.root, {"NCCL_IB_TC": "106"})) == []
    (what,) = problems(check_traffic_class(machine.root, {"NCCL_IB_TC": "0"}))
    assert "NCCL_IB_TC=0 is overruled by the 106" in what
    (what,) = problems(check_traffic_class(machine.root, {"NCCL_IB_TC": "300"}))
    assert "none of 0 to 255" in what
    machine.port("mlx5_1", [], forced=41)
    assert "different traffic classes" in problems(check_traffic_class(machine.root, {}))[0]


def test_traffic_class_zero_is_noted_for_roce_only(tmp_path):
    machine = Machine(tmp_path).port("mlx5_0", [], layer="InfiniBand")
    assert check_traffic_class(machine.root, {}) == []
    machine.port("mlx5_1", usual("10.1.0.7"))
    assert "traffic class 0" in check_traffic_class(machine.root, {})[0].what


@pytest.mark.parametrize(
    ("value", "level"), [("0", "ok"), ("1", "problem"), (None, "note"), ("5", "problem")]
)
def test_rings_keep_to_rails(machine, value, level):
    environment = {} if value is None else {"NCCL_CROSS_NIC": value}
    (finding,) = check_rails(machine.root, environment)
    assert finding.level == level


def test_ports_of_one_network_are_no_rails(tmp_path):
    machine = Machine(tmp_path).port("a0", usual("10.1.0.7")).port("a1", usual("10.1.0.8"))
    assert check_rails(machine.root, {"NCCL_CROSS_NIC": "1"}) == []


def test_gids_of_ipv4_are_shown_as_such(tmp_path):
    machine = Machine(tmp_path).port("a0", [(mapped("192.168.1.20"), V1)])
    (what,) = addresses(machine, NCCL_IB_GID_INDEX="0")
    assert "192.168.1.20 of RoCE v1" in what
