"""AMD's cards as a target: dtypes by architecture, constructs and packages."""

from __future__ import annotations

from functools import cache

from ds_core.components.porting import Construct, DtypeRule, Porting
from ds_rocm.porting.native import verdict
from ds_rocm.porting.packages import PACKAGES

_MATRIX_UNITS = ("gfx908*", "gfx90a*", "gfx94*", "gfx95*", "gfx11*", "gfx12*")
_FNUZ = ("gfx94*",)
_OCP = ("gfx95*", "gfx12*")

_SCALED = "In scaled matrix multiplies alone."
_DTYPES = (
    DtypeRule(dtype="fp64", works=True, fast=False),
    DtypeRule(dtype="fp32", works=True, fast=False, reason="The baseline."),
    DtypeRule(
        dtype="tf32",
        works=None,
        archs=("gfx94*",),
        reason="MI300 has it in hardware; whether torch uses it depends on ROCm and a switch.",
    ),
    DtypeRule(dtype="tf32", works=False, reason="No matrix unit of this card computes in it."),
    DtypeRule(dtype="bf16", works=True, fast=True, archs=_MATRIX_UNITS),
    DtypeRule(dtype="bf16", works=True, reason="Without matrix units only measuring tells."),
    DtypeRule(dtype="fp16", works=True, fast=True, archs=(*_MATRIX_UNITS, "gfx90*", "gfx10*")),
    DtypeRule(dtype="fp16", works=True, reason="Only measuring tells."),
    *(
        rule
        for name in ("fp8_e4m3fn", "fp8_e5m2")
        for rule in (
            DtypeRule(dtype=name, works=True, fast=True, archs=_OCP, reason=_SCALED),
            DtypeRule(
                dtype=name,
                works=False,
                archs=_FNUZ,
                reason="MI300 has the fnuz variants (float8_e4m3fnuz, float8_e5m2fnuz) instead.",
            ),
            DtypeRule(dtype=name, works=False, reason="This card has no float8 matrix units."),
        )
    ),
    DtypeRule(dtype="complex64", works=True, fast=False),
    DtypeRule(dtype="complex128", works=True, fast=False),
)

_GUARDED = "Put it under #ifndef USE_ROCM and write another way beside it."
_CONSTRUCTS = {
    "arch-guard": Construct(
        level="warning",
        why="HIP defines neither __CUDA_ARCH__ nor CUDART_VERSION: this code may be left out "
        "without a word.",
        mend="Say what is to happen where USE_ROCM is defined.",
    ),
    "async-copy": Construct(
        level="error", why="HIP has no cuda::pipeline, barrier or memcpy_async.", mend=_GUARDED
    ),
    "cutlass": Construct(
        level="error",
        why="CUTLASS and CuTe are for NVIDIA's cards.",
        mend="Use Composable Kernel, hipBLASLt or Triton.",
    ),
    "device-launch": Construct(
        level="error",
        why="HIP cannot launch kernels from a kernel.",
        mend="Launch it from the host.",
    ),
    "fp8": Construct(
        level="error",
        why="hipify leaves CUDA's float8 types; MI300's have other bits (fnuz).",
        mend="Use hip/hip_fp8.h or c10::Float8_e4m3fnuz under USE_ROCM.",
    ),
    "grid-sync": Construct(
        level="warning",
        why="Grids synchronise only where the device says that it supports cooperative launch.",
        mend="Ask for hipDeviceAttributeCooperativeLaunch, and launch no more blocks than fit.",
    ),
    "inline-ptx": Construct(level="error", why="PTX is NVIDIA's assembly.", mend=_GUARDED),
    "lane-mask": Construct(
        level="error",
        why="HIP's lane masks have 64 bits, as MI-series warps have 64 lanes.",
        mend="Use unsigned long long, ~0ull for all lanes and __popcll.",
    ),
    "launch-attributes": Construct(
        level="error",
        why="hipify leaves extensible launches, and AMD's cards have no thread block clusters.",
        mend="Launch with <<<...>>>; HIP 7 has hipLaunchKernelExC for cooperative launches.",
    ),
    "tensor-map": Construct(
        level="error", why="AMD's cards have no tensor memory accelerator.", mend=_GUARDED
    ),
    "texture-reference": Construct(
        level="error",
        why="Texture references are gone from HIP and from CUDA 12.",
        mend="Use texture objects.",
    ),
    "warp-size": Construct(
        level="warning",
        why="A warp has 64 lanes on MI-series cards.",
        mend="Use warpSize on the device, and at::cuda::warp_size() on the host.",
    ),
    "wmma": Construct(
        level="error", why="HIP has no nvcuda::wmma.", mend="Use rocWMMA, or leave it to hipBLASLt."
    ),
}


@cache
def porting() -> Porting:
    """What code written for CUDA meets on AMD's cards, by torch's ROCm build.

    Dtypes are AMD's, "Data types and precision support"; constructs are its HIP porting guide's.
    """
    return Porting(
        device_type="cuda",
        collective="nccl",
        dtypes=_DTYPES,
        packages=PACKAGES,
        native=verdict,
        constructs=_CONSTRUCTS,
        macros=("USE_ROCM", "__HIP_PLATFORM_AMD__", "__HIPCC__", "__HIP__", "TORCH_HIP_VERSION"),
    )
