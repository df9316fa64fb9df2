import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.builtin.cpu import Cpu

from . import trees

GIB = 2**30
SERVER = {
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\n"
    "model name\t: Intel(R) Xeon(R) Platinum 8480+\n"
    "flags\t\t: fpu lm avx2 avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8\n\n"
    "processor\t: 1\nmodel name\t: not this one\nflags\t\t: fpu\n",
    "proc/meminfo": f"MemTotal:       {64 * GIB // 1024} kB\nMemAvailable: {32 * GIB // 1024} kB\n",
    "sys/devices/system/cpu/online": "0-3,8-11\n",
}
GRAVITON = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 2100.00\n"
    "Features\t: fp asimd evtstrm fphp asimdhp sve bf16 i8mm\nCPU implementer\t: 0x41\n",
    "proc/meminfo": "MemTotal: 8000000 kB\n",
}


def test_names_processor_dtype_instructions_cores_and_memory(tmp_path):
    probe = Cpu.probe(trees.write(tmp_path, SERVER))
    (device,) = probe.devices
    assert probe.usable
    assert device.name == "Intel(R) Xeon(R) Platinum 8480+ (8 cores)"
    assert device.arch == "x86_64 avx512_bf16 avx512_fp16 amx_bf16"
    assert device.memory == 64 * GIB
    assert probe.software == {"torch": torch.__version__}


def test_knows_arm(tmp_path):
    (device,) = Cpu.probe(trees.write(tmp_path, GRAVITON)).devices
    assert device.name == "aarch64 CPU"
    assert device.arch == "aarch64 fphp asimdhp bf16"
    assert device.memory == 8000000 * 1024


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{8 * GIB}\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{512 * GIB}\n"}, 64),
        (
            {  # the limit is the parent's
                "proc/self/cgroup": "0::/user.slice/job.scope\n",
                "sys/fs/cgroup/user.slice/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/user.slice/job.scope/memory.max": "max\n",
            },
            4,
        ),
        (
            {  # version 1, in a container that sees its own group as the root
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            64,
        ),
        ({"proc/self/cgroup": "nonsense\n4:memory\n0::/../../..\n"}, 64),
        ({"proc/self/cgroup": "0::/a\0b\n"}, 64),
    ],
)
def test_memory_is_limited_by_control_groups(tmp_path, files, expected):
    (device,) = Cpu.probe(trees.write(tmp_path, SERVER | files)).devices
    assert device.memory == expected * GIB


def test_an_empty_tree_still_has_a_cpu(tmp_path):
    probe = Cpu.probe(str(tmp_path))
    assert probe.usable
    assert probe.devices[0].memory is None


def test_finds_this_machine():
    (device,) = Cpu.probe().devices
    assert device.memory is not None
    assert device.memory > 0
    if sys.platform == "linux":
        assert f"({len(os.sched_getaffinity(0))} core" in device.name


PATHS = [
    *SERVER,
    "proc/self/cgroup",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/memory.stat",
]
FRAGMENTS = st.sampled_from(
    [b"MemTotal:", b" kB\n", b"0::/", b":memory:/", b"\n\n", b"flags:", b"-1", b"9" * 30, b"\0"]
)


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(
        st.sampled_from(PATHS),
        st.binary(max_size=300) | st.lists(FRAGMENTS, max_size=8).map(b"".join),
    )
)
def test_probing_garbage_never_raises(files):
    with tempfile.TemporaryDirectory() as root:
        (device,) = Cpu.probe(trees.write(root, files)).devices
        assert device.memory is None or device.memory > 0


def test_probing_imports_no_torch(tmp_path):
    folder = trees.torch_folder(tmp_path, "2.99.0+cpu")
    code = (
        "import sys\n"
        "from ds_core.builtin.cpu import Cpu\nfrom ds_core.builtin.cuda import Cuda\n"
        "version = Cpu.probe().software['torch']\nCuda.probe()\n"
        "print(version, any(name.partition('.')[0] == 'torch' for name in sys.modules))"
    )
    assert trees.run(code, path=[folder]).split() == ["2.99.0+cpu", "False"]


def test_a_missing_torch_is_a_problem():
    # -I and -S leave only the standard library and what is added by hand.
    site = [entry for entry in sys.path if entry.endswith("site-packages")]
    code = (
        "import importlib.util, sys\n"
        f"sys.path += {[str(trees.REPOSITORY), *site]!r}\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from ds_core.builtin.cpu import Cpu\n"
        "probe = Cpu.probe()\nprint(probe.usable, probe.problems[0].what, sep='|')"
    )
    assert trees.run(code).strip() == "False|PyTorch is not installed."


def test_info_is_measured_once_for_each_object():
    cpu = Cpu()
    cpu.activate()
    info = cpu.info()
    assert cpu.info() is info
    assert info.device == "cpu"
    assert info.dtypes["fp32"].works
    assert info.best in info.dtypes
    assert info.best == "fp32" or info.dtypes[info.best].fast
    assert {"dtype:fp32", "collective:gloo"} <= cpu.provides


def test_memory_counts_what_is_allocated():
    cpu = Cpu()
    before = cpu.memory()
    block = torch.ones(32 * 2**20, dtype=torch.uint8)
    after = cpu.memory()
    assert after.allocated - before.allocated > 24 * 2**20
    assert after.peak >= after.allocated
    assert 0 < after.free <= after.total
    del block


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel does not reset peaks here"
)
def test_the_peak_starts_again():
    cpu = Cpu()
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    high = cpu.memory().peak
    del block
    cpu.reset_peak_memory()
    assert cpu.memory().peak < high - 32 * 2**20


def test_random_state_comes_back():
    cpu = Cpu()
    state = cpu.rng_state()
    first = torch.rand(5)
    cpu.set_rng_state(state)
    assert torch.equal(torch.rand(5), first)


def test_profiler_activities_are_what_the_profiler_takes():
    with torch.profiler.profile(activities=Cpu().profiler_activities()) as profile:
        torch.ones(4) + 1
    assert any(event.key == "aten::add" for event in profile.key_averages())


def _reduce(rank, port, file):
    import torch.distributed as dist

    cpu = Cpu()
    dist.init_process_group(
        cpu.distributed_backend(),
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
    )
    for op in sorted(cpu.reduce_ops()):
        whole = op.startswith("b")
        tensor = torch.tensor([rank + 1], dtype=torch.int32 if whole else torch.float32)
        dist.all_reduce(tensor, getattr(dist.ReduceOp, op.upper()))
        if rank == 0:
            with Path(file).open("a") as output:
                output.write(f"{op} {tensor.item():g}\n")
    dist.destroy_process_group()


@pytest.mark.processes
def test_every_reduction_works_between_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_reduce, (port, str(tmp_path / "results")), nprocs=2)
    results = dict(line.split() for line in (tmp_path / "results").read_text().splitlines())
    assert results == {
        **{"avg": "1.5", "max": "2", "min": "1", "product": "2", "sum": "3"},
        **{"band": "0", "bor": "3", "bxor": "3"},
    }
