import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ds_core
from ds_core.components.dtype_speed import measure
from ds_core.errors import BackendError

KEY = {"name": "some CPU", "arch": "x86_64"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "not yet made" / "cache"
    monkeypatch.setenv("DS_CACHE_DIR", str(folder))
    return folder


def only_file(folder):
    (file,) = folder.iterdir()
    return file


def doctor(file):
    """Write a speed-up into a cache entry that no measurement gives."""
    entry = json.loads(file.read_text())
    entry["dtypes"]["bf16"]["speedup"] = 123.0
    file.write_text(json.dumps(entry))


def test_says_which_dtypes_work_and_why_not(cache):
    found = measure("cpu", key=KEY)
    assert list(found) == ["fp32", "bf16", "fp16", "fp8_e4m3fn", "fp8_e5m2"]
    assert found["fp32"].works
    assert found["fp32"].speedup == 1.0
    for name in ("bf16", "fp16"):
        assert found[name].works
        assert found[name].fast == (found[name].speedup >= 1.2)
        assert found[name].reason.endswith("x the speed of float32's matrix multiply, as measured.")
    assert found["fp8_e4m3fn"].reason == "Autocast does not compute in it on cpu."
    assert not found["fp8_e4m3fn"].works


def test_a_second_look_does_not_measure(cache):
    first = measure("cpu", key=KEY)
    assert measure("cpu", key=KEY) == first
    doctor(only_file(cache))
    assert measure("cpu", key=KEY)["bf16"].speedup == 123.0


def test_another_machine_is_measured_anew(cache):
    measure("cpu", key=KEY)
    doctor(only_file(cache))
    assert measure("cpu", key=KEY | {"arch": "aarch64"})["bf16"].speedup != 123.0
    assert len(list(cache.iterdir())) == 2


def test_an_entry_under_the_wrong_name_is_not_believed(cache):
    measure("cpu", key=KEY)
    file = only_file(cache)
    entry = json.loads(file.read_text())
    entry["key"]["torch"] = "1.0"
    file.write_text(json.dumps(entry))
    doctor(file)
    assert measure("cpu", key=KEY)["bf16"].speedup != 123.0


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe\0", b'{"key": {}, "dtypes": {"bf16": 3}}']
)
def test_a_corrupt_entry_is_measured_again_and_replaced(cache, damage):
    measure("cpu", key=KEY)
    file = only_file(cache)
    file.write_bytes(damage)
    assert measure("cpu", key=KEY)["fp32"].works
    assert json.loads(only_file(cache).read_text())["dtypes"]["fp32"]["works"]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert measure("cpu", key=KEY)["fp32"].works
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of Unix")
def test_a_full_disk_is_no_error_and_leaves_nothing(cache):
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from ds_core.components.dtype_speed import measure\n"
        "assert measure('cpu')['fp32'].works"
    )
    path = str(Path(ds_core.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert list(cache.iterdir()) == []


def test_nothing_of_torch_is_disturbed(cache):
    torch.use_deterministic_algorithms(True, warn_only=True)
    precision = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        state = torch.get_rng_state()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert measure("cpu", key=KEY)["fp16"].works
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.backends.mkldnn.matmul.fp32_precision = precision


def test_a_device_that_computes_nothing_is_an_error(cache):
    with pytest.raises(BackendError, match="meta:0 does not compute in float32"):
        measure("meta")
    assert not cache.exists()
