"""Limits: shared memory, files, locked memory, buffers; and the examination as a whole."""

import json

import pytest
from click.testing import CliRunner
from ds_nccl_ring.command import topology
from ds_nccl_ring.doctor import examination
from ds_nccl_ring.doctor.limits import check_locked_memory, check_open_files, check_socket_buffers
from ds_nccl_ring.doctor.memory import check_shared_memory
from machine import Machine, problems

MIB = 1 << 20
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {files}                 1048576              files
Max locked memory         {locked}              unlimited            bytes"""


@pytest.mark.parametrize(
    ("every", "free", "enough"), [(64, 64, False), (1024, 100, False), (1024, 900, True)]
)
def test_shared_memory_is_not_a_containers_64_mib(tmp_path, every, free, enough):
    found = check_shared_memory(tmp_path, {}, usage=lambda path: (every * MIB, free * MIB))
    assert (problems(found) == []) is enough


def test_absent_shared_memory_is_a_problem(tmp_path):
    assert "There is no /dev/shm" in problems(check_shared_memory(tmp_path, {}))[0]


def test_open_files_suffice_for_the_ranks(tmp_path):
    machine = Machine(tmp_path)
    machine.write("proc/self/limits", LIMITS.format(files=1024, locked=65536))
    assert problems(check_open_files(machine.root, {"WORLD_SIZE": "64"})) == []
    (what,) = problems(check_open_files(machine.root, {"WORLD_SIZE": "1024"}))
    assert "1024 files" in what


def test_rdma_locks_memory(tmp_path):
    machine = Machine(tmp_path)
    machine.write("proc/self/limits", LIMITS.format(files=1024, locked=65536))
    assert check_locked_memory(machine.root, {}) == []
    machine.port("mlx5_0", [])
    assert "lock 65536 bytes" in problems(check_locked_memory(machine.root, {}))[0]
    machine.write("proc/self/limits", LIMITS.format(files=1024, locked="unlimited"))
    assert problems(check_locked_memory(machine.root, {})) == []


def test_buffers_suffice_for_the_fastest_link(tmp_path):
    machine = Machine(tmp_path).interface("eth0", speed=10000)
    for name in ("tcp_rmem", "tcp_wmem"):
        machine.write(f"proc/sys/net/ipv4/{name}", "4096\t131072\t6291456")
    assert problems(check_socket_buffers(machine.root, {})) == []
    machine.interface("eth1", speed=400000)
    found = check_socket_buffers(machine.root, {})
    assert len(problems(found)) == 2
    assert 'sysctl -w net.ipv4.tcp_rmem="4096 131072 50000000"' in found[0].mend


def test_a_bare_machine_breaks_no_check(tmp_path):
    assert examination.examine_host(tmp_path, {})


def test_the_command_exits_with_one_on_a_problem(monkeypatch):
    run = CliRunner().invoke
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    result = run(topology, ["doctor"])
    assert result.exit_code == 1
    assert "NCCL_ALGO=Ring keeps NCCL from choosing" in result.output
    told = json.loads(run(topology, ["doctor", "--json"]).output)
    assert "problem" in {finding["level"] for finding in told}
    monkeypatch.setattr(examination, "CHECKS", ())
    assert run(topology, ["doctor"]).exit_code == 0
