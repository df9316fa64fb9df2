"""Ascend NPUs as a target of `ds check-compatibility`."""

from __future__ import annotations

from functools import cache

from ds_ascend.socs import WITH_BF16, WITH_FP8, WITHOUT_BF16
from ds_core.components.porting import DtypeRule, Level, Porting, Replacement

_NO_FP8 = "This chip has no float8 matrix units; the Ascend 950 is the first with them."
_DTYPES = (
    DtypeRule(
        dtype="fp64",
        works=None,
        reason="Few operators have kernels for it; others run on the host or fail.",
    ),
    DtypeRule(dtype="fp32", works=True, fast=False, reason="The baseline."),
    DtypeRule(
        dtype="tf32",
        works=False,
        reason="The counterpart is HF32, by torch.npu.matmul.allow_hf32.",
    ),
    DtypeRule(dtype="bf16", works=True, fast=True, archs=WITH_BF16),
    DtypeRule(
        dtype="bf16",
        works=False,
        archs=WITHOUT_BF16,
        reason="The first generation has no bfloat16: use float16 with a loss scale.",
    ),
    DtypeRule(dtype="fp16", works=True, fast=True),
    *(
        rule
        for name in ("fp8_e4m3fn", "fp8_e5m2")
        for rule in (
            DtypeRule(
                dtype=name,
                works=True,
                fast=True,
                archs=WITH_FP8,
                reason="In scaled matrix multiplies alone.",
            ),
            DtypeRule(dtype=name, works=False, reason=_NO_FP8),
        )
    ),
    DtypeRule(dtype="complex64", works=None, reason="Few operators have kernels for it."),
    DtypeRule(dtype="complex128", works=None, reason="Few operators have kernels for it."),
)
_TABLE: dict[str, tuple[Level, str]] = {
    "apex": ("warning", "Build Huawei's patched Apex (github.com/Ascend/apex), or use torch.amp."),
    "cuda": ("error", "Call CANN through torch_npu."),
    "cupy": ("error", "Use torch or NumPy."),
    "flash_attn": (
        "error",
        "Use torch.nn.functional.scaled_dot_product_attention, or torch_npu.npu_fusion_attention.",
    ),
    "nvidia.dali": ("error", "Decode on the host, or use torchvision_npu (DVPP)."),
    "onnxruntime": ("warning", "Install onnxruntime-cann."),
    "pynvml": ("error", "Use npu-smi, or CANN's DCMI."),
    "tensorrt": ("error", "Convert the model with ATC to an .om file."),
    "tensorrt_llm": ("error", "Use vLLM with vllm-ascend, or MindIE."),
    "torch_tensorrt": ("error", "Use torch.compile with the backend 'npu' (TorchAir)."),
    "transformer_engine": ("error", "Use torch.nn, or MindSpeed."),
    "triton": ("warning", "Install triton-ascend; kernels are written for other tile sizes."),
    "vllm": ("warning", "Install vllm-ascend beside it."),
    "xformers": ("error", "Use torch.nn.functional.scaled_dot_product_attention."),
}


@cache
def porting() -> Porting:
    """Python ports by changing the device; native code for CUDA does not port at all."""
    return Porting(
        device_type="npu",
        collective="hccl",
        dtypes=_DTYPES,
        overflow="saturate",
        static_shapes="Without kernels compiled ahead, each new shape compiles operators anew; "
        "graphs (torch.compile) are compiled for each shape.",
        packages={name: Replacement(level=level, how=how) for name, (level, how) in _TABLE.items()},
        native=None,
        native_absent="Kernels for Ascend are written in Ascend C or triton-ascend: start from the "
        "Python operator that this one replaces.",
    )
