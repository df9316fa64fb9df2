"""What code for CUDA meets on AMD's cards: the tables are consistent, and say what hipify does."""

import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from ds_rocm.porting import hipify, porting
from ds_rocm.porting.native import verdict
from hypothesis import given

from ds_core.components.porting import CONSTRUCTS, CUDA_PACKAGES, DTYPES


def test_the_tables_are_about_what_the_contract_asks():
    target = porting()
    assert set(target.packages) <= set(CUDA_PACKAGES)
    assert set(target.constructs) == set(CONSTRUCTS)
    assert {rule.dtype for rule in target.dtypes} == set(DTYPES)
    assert (target.device_type, target.collective) == ("cuda", "nccl")


NAMES = sorted(hipify.tables().names)


@given(st.sampled_from(NAMES))
def test_what_hipify_writes_is_what_is_told_or_does_not_exist(name):
    found = verdict(name)
    written = hipify.tables().names[name]
    if written.strip(" *") in hipify.absent():
        assert found.status == "unmapped"
        assert written.strip(" *") in found.why
    else:
        assert (found.status, found.to) == ("identity" if written == name else "mapped", written)


@given(st.from_regex(r"cu[A-Z][a-z]{2,9}Zz", fullmatch=True))
def test_a_name_that_nobody_knows_is_unmapped_with_a_reason(name):
    found = verdict(name)
    assert found.status == "unmapped"
    assert found.why.endswith(".")
    assert found.mend.endswith(".")


@pytest.mark.parametrize(
    ("text", "status", "to"),
    [
        ("cudaMalloc", "mapped", "hipMalloc"),
        ("cuda.h", "mapped", "hip/hip_runtime.h"),
        ("nccl.h", "mapped", "rccl/rccl.h"),
        ("ncclAllReduce", "identity", "ncclAllReduce"),
        ("thrust/sort.h", "identity", "thrust/sort.h"),
        ("thrust/system/cuda/vector.h", "mapped", "thrust/system/hip/vector.h"),
        ("cudaLaunchKernelEx", "unmapped", ""),
        ("cuTensorMapEncodeTiled", "unmapped", ""),
        ("cudnnConvolutionForward", "unmapped", ""),
        ("nvtx3/nvToolsExt.h", "unmapped", ""),
        ("cuMemcpyAsync", "unmapped", ""),
    ],
)
def test_what_becomes_of(text, status, to):
    found = verdict(text)
    assert (found.status, found.to) == (status, to)


def test_hipify_itself_leaves_an_unmapped_name_and_says_nothing(tmp_path):
    from torch.utils.hipify.hipify_python import hipify as run

    source = tmp_path / "a.cu"
    source.write_text("void f() { cudaLaunchKernelEx(0, 0); cudaMalloc(0, 1); }\n")
    results = run(
        str(tmp_path),
        output_directory=str(tmp_path),
        includes=[f"{tmp_path}/*"],
        extra_files=[str(source)],
        show_progress=False,
        is_pytorch_extension=True,
    )
    (result,) = results.values()
    written = Path(result.hipified_path).read_text()
    assert verdict("cudaMalloc").to in written
    assert "cudaLaunchKernelEx" in written
    assert result.status == "[ok]"


def test_float8_has_other_bits_on_mi300_than_on_its_successor():
    target = porting()
    assert target.dtype("fp8_e4m3fn", "gfx942").works is False
    assert target.dtype("fp8_e4m3fn", "gfx950").works is True
    assert target.dtype("fp8_e4m3fn", "").works is None
    assert target.dtype("bf16", "gfx90a").fast is True
    assert target.dtype("tf32", "gfx1100").works is False


def test_reading_the_tables_imports_no_torch():
    code = "import sys; from ds_rocm.porting.native import verdict; verdict('cudaMalloc'); "
    code += "sys.exit('torch' in sys.modules)"
    folder = str(Path(hipify.__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": folder})


def test_without_torch_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr("ds_rocm.porting.native.tables", lambda: hipify.Tables({}, {}))
    found = verdict("cudaMalloc")
    assert found.status == "unmapped"
    assert "torch" in found.why
