"""C++ and CUDA sources: names, constructs, and what a target makes of them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ds_core.compatibility.native_judge import NativeJudge
from ds_core.compatibility.native_scan import scan_native

from .targets import ELSEWHERE, TRANSLATED


def judge(porting=TRANSLATED, **files):
    scans = {
        name.replace("__", "."): scan_native(text, name.endswith(("cu", "cuh")))
        for name, text in files.items()
    }
    return NativeJudge(scans, "hal", porting)


def found(text, porting=TRANSLATED, name="a__cu"):
    return {(f.line, f.rule) for f in judge(porting, **{name: text}).findings()}


@given(st.text())
def test_no_text_makes_the_scan_fail(text):
    list(judge(a__cu=text, b__cpp=text).findings())


@given(
    st.lists(st.sampled_from(["cudaMalloc", "cudaFree", "cudaNew", "cudaOdd", "ncclSum", "mine"]))
)
def test_every_name_is_counted_once_by_what_becomes_of_it(names):
    coverage = judge(a__cu="".join(f"{name}();\n" for name in names)).coverage()
    expected = {
        "mapped": {"cudaMalloc", "cudaFree"} & set(names),
        "unmapped": {"cudaNew", "cudaOdd"} & set(names),
        "identity": {"ncclSum"} & set(names),
    }
    if not any(expected.values()):
        assert coverage is None
        return
    assert {status: set(getattr(coverage, status)) for status in expected} == expected
    both = expected["mapped"] | expected["unmapped"]
    assert coverage.share == (len(expected["mapped"]) / len(both) if both else None)


def test_an_unmapped_name_is_told_once_a_file_with_its_count():
    text = "void f() { cudaNew(1); }\nvoid g() { cudaNew(2); }"
    (finding,) = judge(a__cu=text).findings()
    assert (finding.line, finding.column, finding.count) == (1, 12, 2)
    assert "cudaNew" in finding.what
    assert finding.mend == "Write it."


@pytest.mark.parametrize(
    "declaration",
    [
        "void cudaReport(int code) { }",
        "#define cudaReport(x) x",
        "struct cudaReport { };",
        "using cudaReport = int;",
        "int* cudaReport = nullptr;",
        "void f(std::vector<int> cudaReport, int b);",
    ],
)
def test_what_a_project_declares_is_its_own_in_every_file(declaration):
    assert judge(a__h=declaration, b__cu="void g() { cudaReport; }").coverage() is None


@pytest.mark.parametrize(
    "call", ["return cudaNew(1);", "x = a * cudaNew(1);", "f(cudaNew);", "if (x) cudaNew(2);"]
)
def test_a_call_declares_nothing(call):
    assert judge(a__cu=call).coverage().unmapped == ("cudaNew",)


def test_members_and_names_in_other_namespaces_are_not_cudas():
    text = "h.cudaNew; h->cudaNew(); at::cuda::cudaNew(); mine::cudaNew; ::cudaMalloc();"
    assert judge(a__cu=text).coverage().unmapped == ()


def test_a_header_of_the_project_is_its_own():
    text = '#include "cublas_tools.h"\n#include <cuda_runtime.h>'
    assert judge(src__cublas_tools__h="", a__cu=text).coverage().unmapped == ("cublas_tools.h",)
    scans = {"src/cublas_tools.h": scan_native("", False), "a.cu": scan_native(text, True)}
    assert NativeJudge(scans, "hal", TRANSLATED).coverage().unmapped == ()


def test_code_that_the_targets_macro_leaves_out_is_not_judged():
    text = '#ifndef USE_HAL\nvoid f() { cudaNew(); asm("mov.u32 %0, 1;"); }\n#endif'
    assert found(text) == set()
    assert found(text.replace("USE_HAL", "USE_OTHER")) == {(2, "native-name"), (2, "inline-ptx")}


CONSTRUCTS = {
    "inline-ptx": 'asm volatile("mov.u32 %0, %laneid;" : "=r"(x));',
    "wmma": "nvcuda::wmma::fragment<float> a;",
    "cutlass": '#include "cutlass/gemm.h"',
    "warp-size": "__device__ int lane() { return threadIdx.x % 32; }",
    "lane-mask": "__device__ int f(int v) { return __shfl_down_sync(0xffffffff, v, 1); }",
    "fp8": "#include <cuda_fp8.h>",
    "grid-sync": "cooperative_groups::this_grid().sync();",
    "launch-attributes": "cudaLaunchKernelEx(&config, kernel);",
    "tensor-map": "cuTensorMapEncodeTiled(&map);",
    "texture-reference": "texture<float, 2> image;",
    "async-copy": "cuda::barrier<cuda::thread_scope_block> arrived;",
    "device-launch": "__global__ void f() { g<<<1, 1>>>(); }",
    "arch-guard": "#if __CUDA_ARCH__ >= 700\n#endif",
}
HARMLESS = {
    "inline-ptx": "int asm_count = 0; // asm volatile(cp.async)",
    "wmma": 'const char* text = "nvcuda::wmma";',
    "cutlass": "int cutlass = 3;",
    "warp-size": "int pages = count % 32; __device__ int lane() { return threadIdx.x % warpSize; }",
    "lane-mask": "__device__ int f(int v) { return __shfl_down_sync(~0ull, v, 1); }",
    "fp8": "#include <cuda_fp16.h>",
    "grid-sync": "block.sync(); __syncthreads();",
    "launch-attributes": "kernel<<<1, 32>>>();",
    "tensor-map": "TensorMap map;",
    "texture-reference": "cudaTextureObject_t image; int texture = 1;",
    "async-copy": "std::barrier arrived; cuda::std::array<int, 3> a;",
    "device-launch": "__global__ void f() { } void g() { f<<<1, 1>>>(); }",
    "arch-guard": "__device__ int arch() { return __CUDA_ARCH__; }",
}


@pytest.mark.parametrize("rule", sorted(CONSTRUCTS))
def test_a_construct_is_found_and_what_only_looks_like_it_is_not(rule):
    assert (1, rule) in found(CONSTRUCTS[rule])
    assert rule not in {found_rule for _, found_rule in found(HARMLESS[rule])}


@pytest.mark.parametrize("mask", ["0xFFFFFFFFu", "-1", "~0u", "uint32_t(-1)", "(unsigned)-1"])
def test_masks_of_32_bits_are_found_however_they_are_written(mask):
    text = f"__device__ int f(int v) {{ return __shfl_sync({mask}, v, 0); }}"
    assert found(text) == {(1, "lane-mask")}


@pytest.mark.parametrize("mask", ["~0ull", "0xffffffffffffffff", "mask", "get(-1, x)"])
def test_other_masks_are_left_alone(mask):
    assert found(f"__device__ int f(int v) {{ return __shfl_sync({mask}, v, 0); }}") == set()


@pytest.mark.parametrize(
    ("expression", "assumes"),
    [
        ("threadIdx.x / 32", True),
        ("BLOCK_DIM_X / 32", True),
        ("(threadIdx.y * 4 + threadIdx.x) & 31", True),
        ("warp * 32 + lane", True),
        ("THREADS_PER_CTA * 32", False),
        ("rows / 32", False),
        ("threadIdx.x / 33", False),
        ("threadIdx.x + rows / 32", False),
    ],
)
def test_a_warp_of_32_lanes_is_told_from_other_numbers(expression, assumes):
    rules = {rule for _, rule in found(f"__device__ int f() {{ return {expression}; }}")}
    assert rules == ({"warp-size"} if assumes else set())


def test_every_construct_of_the_contract_is_tested():
    assert set(CONSTRUCTS) == set(TRANSLATED.constructs)


def test_a_construct_is_told_in_place_of_the_names_that_make_it():
    assert found(CONSTRUCTS["tensor-map"]) == {(1, "tensor-map")}
    silent = TRANSLATED.model_copy(update={"constructs": {}})
    assert found(CONSTRUCTS["tensor-map"], silent) == {(1, "native-name")}


def test_assembly_for_the_host_is_none_of_cudas():
    text = '__asm__ volatile("cpuid" : "=a"(a) : "a"(0));'
    assert found(text, name="host__cpp") == set()
    assert found('asm("mov.u32 %0, 1;");', name="host__cpp") == {(1, "inline-ptx")}


def test_where_nothing_ports_each_file_is_told_once():
    files = {"a__cu": "__global__ void f();\n__global__ void g();", "b__cpp": "int main() { }"}
    (finding,) = judge(ELSEWHERE, **files).findings()
    assert (finding.path, finding.rule, finding.level) == ("a.cu", "native-code", "error")
    assert finding.mend == ELSEWHERE.native_absent
    assert judge(ELSEWHERE, **files).coverage() is None
