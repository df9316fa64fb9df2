import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.builtin.cuda import Cuda, by_capability
from ds_core.errors import BackendError

from . import trees

BUS = ["0000:0b:00.0", "0000:1c:00.0"]
VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n"
    "GCC version:  gcc version 11.4.0\n"
)
OPEN_VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
    "(dvs-builder@host)  Sun Jul 27 07:13:24 UTC 2025\n"
)
PCI = {
    **{f"sys/bus/pci/devices/{bus}/vendor": "0x10de\n" for bus in BUS},
    **{f"sys/bus/pci/devices/{bus}/class": "0x030200\n" for bus in BUS},
    **{f"sys/bus/pci/devices/{bus}/device": "0x2330\n" for bus in BUS},
    # a network card, and the sound device of a graphics card
    "sys/bus/pci/devices/0000:00:02.0/vendor": "0x15b3\n",
    "sys/bus/pci/devices/0000:00:02.0/class": "0x020000\n",
    "sys/bus/pci/devices/0000:00:03.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:00:03.0/class": "0x040300\n",
}
DRIVER = {
    "proc/driver/nvidia/version": VERSION,
    **{
        f"proc/driver/nvidia/gpus/{bus}/information": "Model: \t\t NVIDIA H100 80GB HBM3\n"
        f"IRQ:   \t\t 18\nGPU UUID: \t GPU-{number}1111111-aaaa\nBus Location: \t {bus}\n"
        "GPU Excluded:\t No\n"
        for number, bus in enumerate(BUS)
    },
}
FILES = {f"dev/{name}": "" for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm")}
H100 = PCI | DRIVER | FILES


@pytest.fixture
def cuda12(tmp_path):
    return trees.torch_folder(tmp_path / "site", "2.13.0+cu126", cuda="12.6")


@pytest.fixture
def root(tmp_path):
    return lambda files: trees.write(tmp_path / "root", files)


def only_problem(probe):
    (problem,) = probe.problems
    assert problem.mend
    assert not probe.usable
    return problem


def test_a_host_with_two_cards_is_fine(root, cuda12):
    probe = trees.probe("cuda", root(H100), path=[cuda12])
    assert probe.usable
    assert [(device.index, device.name) for device in probe.devices] == [
        (0, "NVIDIA H100 80GB HBM3"),
        (1, "NVIDIA H100 80GB HBM3"),
    ]
    assert probe.driver == "535.129.03"
    assert probe.software == {"torch": "2.13.0+cu126", "cuda": "12.6"}


def test_a_card_that_its_driver_excludes_is_left_out(root, cuda12):
    path = f"proc/driver/nvidia/gpus/{BUS[0]}/information"
    files = H100 | {path: H100[path].replace("Excluded:\t No", "Excluded:\t Yes")}
    assert len(trees.probe("cuda", root(files), path=[cuda12]).devices) == 1


def test_the_open_driver_is_read_too(root, cuda12):
    probe = trees.probe(
        "cuda", root(H100 | {"proc/driver/nvidia/version": OPEN_VERSION}), path=[cuda12]
    )
    assert probe.driver == "580.65.06"
    assert probe.usable


def test_a_host_without_a_card_has_no_problems(root):
    plain = {path: text for path, text in PCI.items() if "0b:00" not in path and "1c:" not in path}
    probe = Cuda.probe(root(plain))
    assert not probe.present
    assert probe.problems == ()
    assert probe.devices == ()


def test_a_card_without_a_driver(root, cuda12):
    folder = root(PCI)
    for bus in BUS:
        Path(folder, "sys/bus/pci/devices", bus, "driver").symlink_to("../drivers/nouveau")
    probe = trees.probe("cuda", folder, path=[cuda12])
    assert probe.present
    assert len(probe.devices) == 2
    problem = only_problem(probe)
    assert problem.what == "NVIDIA GPU 0x2330 has no NVIDIA driver loaded; nouveau holds it."
    assert "driver" in problem.mend


def test_a_driver_without_device_files(root, cuda12):
    problem = only_problem(trees.probe("cuda", root(PCI | DRIVER), path=[cuda12]))
    assert "/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm are missing" in problem.what
    assert "--gpus all" in problem.mend


def test_device_files_that_cuda_makes_when_needed_are_not_missed(root, cuda12):
    files = PCI | DRIVER | {"usr/bin/nvidia-modprobe": ""}
    assert trees.probe("cuda", root(files), path=[cuda12]).usable


def test_a_sandbox_that_shows_only_device_files(root, cuda12):
    probe = trees.probe("cuda", root(FILES), path=[cuda12])
    assert probe.usable
    assert [device.name for device in probe.devices] == ["NVIDIA GPU", "NVIDIA GPU"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs Unix permissions")
def test_no_permission_on_device_files():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        site = trees.torch_folder(Path(folder, "site"), "2.13.0+cu126", cuda="12.6")
        root = trees.write(Path(folder, "root"), H100)
        for name in ("nvidia0", "nvidiactl"):
            Path(root, "dev", name).chmod(0)
        for name in ("nvidia1", "nvidia-uvm"):
            Path(root, "dev", name).chmod(0o666)
        # The superuser may open everything: look with another user's eyes.
        before = "import os; os.setuid(65534)" if os.getuid() == 0 else ""
        problem = only_problem(trees.probe("cuda", root, path=[site], before=before))
    assert problem.what == "This user may not open /dev/nvidia0, /dev/nvidiactl."
    assert "group" in problem.mend


def test_a_torch_for_the_cpu(root, tmp_path):
    site = trees.torch_folder(tmp_path / "site", "2.13.0+cpu")
    problem = only_problem(trees.probe("cuda", root(H100), path=[site]))
    assert problem.what == "PyTorch 2.13.0+cpu is built without CUDA."
    assert "/whl/cu12" in problem.mend  # this driver runs no CUDA 13


def test_a_torch_for_rocm_is_named_even_without_a_card(root, tmp_path):
    site = trees.torch_folder(tmp_path / "site", "2.13.0+rocm7.0", hip="7.0.5")
    for files in (H100, {}):
        problem = only_problem(trees.probe("cuda", root(files), path=[site]))
        assert "ROCm" in problem.what
        assert "pip install ds-rocm" in problem.mend


def test_a_torch_that_needs_a_newer_driver(root, tmp_path):
    site = trees.torch_folder(tmp_path / "site", "2.13.0+cu130", cuda="13.0")
    problem = only_problem(trees.probe("cuda", root(H100), path=[site]))
    assert "CUDA 13.0" in problem.what
    assert "580" in problem.what
    assert "535.129.03" in problem.what
    assert "/whl/cu12" in problem.mend
    compatible = H100 | {"usr/local/cuda/compat/libcuda.so.1": ""}
    assert trees.probe("cuda", root(compatible), path=[site]).usable


@pytest.mark.parametrize("setting", ["", "-1", "7", "GPU-zz"])
def test_hidden_cards(root, cuda12, setting):
    probe = trees.probe("cuda", root(H100), path=[cuda12], env={"CUDA_VISIBLE_DEVICES": setting})
    problem = only_problem(probe)
    assert probe.present
    assert probe.devices == ()
    assert problem.what == f"CUDA_VISIBLE_DEVICES={setting!r} hides every card."


@pytest.mark.parametrize(("setting", "count"), [("1", 1), ("1,0", 2), ("0,9,1", 1), ("GPU-1", 1)])
def test_shown_cards(root, cuda12, setting, count):
    probe = trees.probe("cuda", root(H100), path=[cuda12], env={"CUDA_VISIBLE_DEVICES": setting})
    assert probe.usable
    assert [device.index for device in probe.devices] == list(range(count))


GARBAGE = st.binary(max_size=200) | st.sampled_from(
    [
        VERSION.encode(),
        b"Model: \xff\xfe\nGPU UUID: ",
        b"0x10de\n",
        b"0x030000\n",
        b"\0\n:\n",
        b"9" * 50,
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(st.sampled_from([*H100, "sys/module/nvidia/version"]), GARBAGE),
    setting=st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
def test_probing_garbage_never_raises(files, setting):
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        if setting is None:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            patch.setenv("CUDA_VISIBLE_DEVICES", setting)
        probe = Cuda.probe(trees.write(root, files))
        assert all(problem.what and problem.mend for problem in probe.problems)
        assert probe.present or not probe.devices


def test_activating_without_a_card_says_so():
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    with pytest.raises(BackendError, match=r"CUDA: ") as caught:
        Cuda().activate()
    assert caught.value.mend


def test_capability_settles_tf32_and_fp8():
    turing, hopper = by_capability((7, 5)), by_capability((9, 0))
    assert not turing["tf32"].works
    assert "8.0" in turing["tf32"].reason
    assert "tf32" not in hopper  # measured
    assert not turing["fp8_e4m3fn"].works
    assert hopper["fp8_e4m3fn"].works
    assert not hopper["fp8_e4m3fn"].fast
    assert by_capability((8, 9))["fp8_e5m2"].works
    assert not by_capability((8, 6))["fp8_e5m2"].works


NVML = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) {
    *h = (void *)(0x7f0000000000UL + i);  /* does not fit 32 bits */
    return i == 1 ? 15 : 0;  /* one card has fallen off the bus */
}
static unsigned long of(void *h) { return (unsigned long)h - 0x7f0000000000UL; }
int nvmlDeviceGetName(void *h, char *text, unsigned n) {
    strncpy(text, of(h) ? "Card two" : "Card nought", n); return 0;
}
int nvmlDeviceGetUUID(void *h, char *text, unsigned n) { strncpy(text, "GPU-x", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
    if (of(h)) return 3;  /* not supported */
    m->total = 85899345920ULL; return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *h, int *major, int *minor) {
    *major = 9; *minor = (int)of(h); return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned n) { strncpy(text, "535.1", n); return 0; }
"""


@pytest.mark.skipif(
    shutil.which("gcc") is None or ctypes.sizeof(ctypes.c_void_p) != 8, reason="needs gcc, 64 bits"
)
def test_nvml_is_called_as_its_header_says(tmp_path):
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "nvml.c"], check=True)
    code = (
        "from ds_core.builtin import nvml\nreport = nvml.report(patience=60)\n"
        "print(report.driver)\n"
        "for card in report.cards: print(*card, sep='|')"
    )
    assert trees.run(code, env={"LD_LIBRARY_PATH": str(tmp_path)}).splitlines() == [
        "535.1",
        "Card nought|GPU-x|85899345920|sm_90",
        "Card two|GPU-x|None|sm_92",
    ]
