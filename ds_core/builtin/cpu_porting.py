"""The host's processor as a target of `ds check-compatibility`."""

from __future__ import annotations

from functools import cache

from ds_core.components.porting import DtypeRule, Level, Porting, Replacement

_NEVER = "Autocast does not compute in it on cpu."
_DTYPES = (
    DtypeRule(dtype="fp64", works=True, fast=False),
    DtypeRule(dtype="fp32", works=True, fast=False, reason="The baseline."),
    DtypeRule(dtype="tf32", works=False, reason="It is a mode of accelerators."),
    DtypeRule(
        dtype="bf16",
        works=True,
        fast=True,
        archs=("*amx_bf16*", "*avx512_bf16*", "*avx_ne_convert*", "*svebf16*", "aarch64* bf16*"),
    ),
    DtypeRule(
        dtype="bf16", works=True, fast=False, reason="This processor has no instructions for it."
    ),
    DtypeRule(
        dtype="fp16",
        works=True,
        archs=("*amx_fp16*", "*avx512_fp16*", "*fphp*"),
        reason="There are instructions for it; only measuring tells whether torch uses them.",
    ),
    DtypeRule(
        dtype="fp16",
        works=True,
        fast=False,
        reason="This processor has no instructions for it: it may be far slower than float32.",
    ),
    DtypeRule(dtype="fp8_e4m3fn", works=False, reason=_NEVER),
    DtypeRule(dtype="fp8_e5m2", works=False, reason=_NEVER),
    DtypeRule(dtype="complex64", works=True, fast=False),
    DtypeRule(dtype="complex128", works=True, fast=False),
)
_TABLE: dict[str, tuple[Level, str]] = {
    "apex": ("error", "torch.optim and torch.nn have most of it."),
    "bitsandbytes": ("warning", "Releases from 0.46 on have some of it for processors."),
    "cuda": ("error", "Leave out what calls CUDA directly."),
    "cudf": ("error", "Use pandas or Polars."),
    "cugraph": ("error", "Use NetworkX or igraph."),
    "cuml": ("error", "Use scikit-learn."),
    "cupy": ("error", "Use NumPy and SciPy."),
    "faiss": ("note", "Install faiss-cpu."),
    "flash_attn": ("error", "Use torch.nn.functional.scaled_dot_product_attention."),
    "numba.cuda": ("error", "Use numba.njit."),
    "nvidia.dali": ("error", "Use torchvision or Pillow."),
    "onnxruntime": ("note", "Install onnxruntime, without -gpu."),
    "tensorrt": ("error", "Use ONNX Runtime or OpenVINO."),
    "torch_tensorrt": ("error", "Use torch.compile."),
    "torchao": ("note", "Which of its kernels are fast differs."),
    "transformer_engine": ("error", "Use torch.nn, with autocast."),
    "triton": ("error", "Write the kernel in torch and let torch.compile make C++ of it."),
    "vllm": ("warning", "Take its CPU build."),
    "xformers": ("error", "Use torch.nn.functional.scaled_dot_product_attention."),
}


@cache
def porting() -> Porting:
    """There is no device to move to, and nothing runs kernels for CUDA."""
    return Porting(
        device_type="cpu",
        collective="gloo",
        dtypes=_DTYPES,
        pinned_memory="without an accelerator it is left out with a warning, or raises.",
        packages={name: Replacement(level=level, how=how) for name, (level, how) in _TABLE.items()},
        native=None,
        native_absent="Keep an implementation in C++ or Python beside it, for the device 'cpu'.",
    )
