"""The contract: what a backend says of itself, and what the core's own say."""

import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ds_core.builtin.cpu import Cpu
from ds_core.builtin.cuda import Cuda
from ds_core.components.backend import Backend
from ds_core.components.porting import CONSTRUCTS, CUDA_PACKAGES, DTYPES, DtypeRule, Porting

BUILTINS = [Cpu, Cuda]


def test_a_backend_that_says_nothing_is_not_checked():
    assert Backend.porting() is None


@pytest.mark.parametrize("backend", BUILTINS)
def test_the_cores_backends_say_what_code_needs(backend):
    porting = backend.porting()
    assert porting.device_type == backend.device_type
    assert set(porting.packages) <= set(CUDA_PACKAGES)
    assert set(porting.constructs) <= set(CONSTRUCTS)
    assert {rule.dtype for rule in porting.dtypes} <= set(DTYPES)
    assert (porting.native is None) == bool(porting.native_absent)


def test_asking_imports_no_torch():
    code = (
        "import sys; from ds_core.builtin.cpu import Cpu; from ds_core.builtin.cuda import Cuda; "
        "Cpu.porting(), Cuda.porting(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


ARCHS = ["sm_60", "sm_75", "sm_80", "sm_89", "sm_90", "sm_120"]


@given(st.sampled_from(ARCHS), st.sampled_from(DTYPES))
def test_a_newer_card_lacks_nothing_that_an_older_one_has(arch, dtype):
    porting = Cuda.porting()
    later = ARCHS[ARCHS.index(arch) :]
    if porting.dtype(dtype, arch).works:
        assert all(porting.dtype(dtype, other).works for other in later)


@pytest.mark.parametrize(
    ("arch", "dtype", "works"),
    [
        ("sm_75", "tf32", False),
        ("sm_80", "tf32", True),
        ("sm_86", "fp8_e4m3fn", False),
        ("sm_89", "fp8_e4m3fn", True),
        ("sm_90", "fp8_e5m2", True),
        ("", "fp8_e5m2", None),
    ],
)
def test_compute_capability_decides(arch, dtype, works):
    assert Cuda.porting().dtype(dtype, arch).works is works


def test_the_first_rule_that_matches_counts():
    rules = (
        DtypeRule(dtype="bf16", works=True, archs=("new*",)),
        DtypeRule(dtype="bf16", works=False, reason="Too old."),
    )
    porting = Porting(device_type="npu", dtypes=rules)
    assert porting.dtype("bf16", "new2").works is True
    assert porting.dtype("bf16", "old").works is False
    assert porting.dtype("bf16").works is None
    assert porting.dtype("bf16").reason == "Too old."
    assert porting.dtype("fp16", "new2").works is None
