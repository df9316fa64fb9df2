"""Gaudi as a target of `ds check-compatibility`."""

from __future__ import annotations

from functools import cache

from ds_core.components.porting import DtypeRule, Level, Porting, Replacement

_LIMITED = "Gaudi has no or very limited support for double precision and complex numbers."
_SCALED = "In scaled matrix multiplies alone."
_NEWER = ("gaudi2", "gaudi3")
_DTYPES = (
    DtypeRule(dtype="fp64", works=False, reason=_LIMITED),
    DtypeRule(dtype="fp32", works=True, fast=False, reason="The baseline."),
    DtypeRule(dtype="tf32", works=False, reason="It is a mode of NVIDIA's and AMD's cards."),
    DtypeRule(dtype="bf16", works=True, fast=True),
    DtypeRule(dtype="fp16", works=True, fast=True, archs=_NEWER),
    DtypeRule(dtype="fp16", works=False, reason="The first Gaudi has no float16; use bfloat16."),
    DtypeRule(
        dtype="fp8_e4m3fn",
        works=True,
        fast=True,
        archs=("gaudi2",),
        reason=f"{_SCALED} Its largest value is 240, not 448.",
    ),
    DtypeRule(dtype="fp8_e4m3fn", works=True, fast=True, archs=("gaudi3",), reason=_SCALED),
    DtypeRule(dtype="fp8_e4m3fn", works=False, reason="The first Gaudi has no float8."),
    DtypeRule(dtype="fp8_e5m2", works=True, fast=True, archs=_NEWER, reason=_SCALED),
    DtypeRule(dtype="fp8_e5m2", works=False, reason="The first Gaudi has no float8."),
    DtypeRule(dtype="complex64", works=False, reason=_LIMITED),
    DtypeRule(dtype="complex128", works=False, reason=_LIMITED),
)
_ATTENTION = (
    "Use torch.nn.functional.scaled_dot_product_attention, or "
    "habana_frameworks.torch.hpex.kernels.FusedSDPA."
)
_TABLE: dict[str, tuple[Level, str]] = {
    "apex": ("error", "Use torch.amp, and habana_frameworks.torch.hpex.optimizers."),
    "cuda": ("error", "Leave out what calls CUDA directly."),
    "cupy": ("error", "Use torch or NumPy."),
    "flash_attn": ("error", _ATTENTION),
    "nvidia.dali": ("error", "Use Intel Gaudi's Media API, or decode on the host."),
    "pynvml": ("error", "Use hl-smi, or pyhlml."),
    "tensorrt": ("error", "Use torch.compile with the backend 'hpu_backend'."),
    "tensorrt_llm": ("error", "Use vLLM with Intel's plugin for Gaudi."),
    "torch_tensorrt": ("error", "Use torch.compile with the backend 'hpu_backend'."),
    "transformer_engine": (
        "warning",
        "Use habana_frameworks.torch.hpex.experimental.transformer_engine.",
    ),
    "triton": ("error", "Write the kernel in torch, or in TPC-C."),
    "vllm": ("warning", "Take Intel's plugin for Gaudi."),
    "xformers": ("error", _ATTENTION),
}


@cache
def porting() -> Porting:
    """Python ports by changing the device; native code for CUDA does not port at all."""
    return Porting(
        device_type="hpu",
        collective="hccl",
        dtypes=_DTYPES,
        static_shapes="Gaudi compiles graphs: each new shape is compiled anew.",
        packages={name: Replacement(level=level, how=how) for name, (level, how) in _TABLE.items()},
        native=None,
        native_absent="Gaudi's kernels are written in TPC-C: start from the Python operator that "
        "this one replaces.",
    )
