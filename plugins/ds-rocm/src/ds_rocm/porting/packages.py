"""What AMD's cards have in place of packages for NVIDIA's."""

from __future__ import annotations

from ds_core.components.porting import Level, Replacement

_TABLE: dict[str, tuple[Level, str]] = {
    "apex": ("warning", "Build AMD's fork, github.com/ROCm/apex; torch has most of it by itself."),
    "awq": ("warning", "Its kernels build for ROCm from source alone."),
    "bitsandbytes": ("warning", "Take a release with ROCm support (multi-backend, 0.45 or later)."),
    "causal_conv1d": ("warning", "Build it from source with ROCm."),
    "cuda": ("error", "Use hip-python."),
    "cudf": ("error", "AMD's hipDF is in an early state."),
    "cupy": ("warning", "Install CuPy's ROCm build in place of cupy-cuda12x."),
    "exllamav2": ("warning", "Take its ROCm wheel."),
    "faiss": ("warning", "Build it with ROCm, or take faiss-cpu."),
    "flash_attn": (
        "warning",
        "Build it with ROCm (composable kernel or Triton), or use scaled_dot_product_attention.",
    ),
    "flash_mla": ("error", "Use AMD's aiter."),
    "deep_gemm": ("error", "Use AMD's aiter or hipBLASLt."),
    "flashinfer": ("warning", "Take AMD's fork, or vLLM's own attention."),
    "mamba_ssm": ("warning", "Build it from source with ROCm."),
    "numba.cuda": ("error", "Use AMD's numba-hip, or Triton."),
    "nvidia.dali": ("error", "Use rocAL, or decode on the host."),
    "nvidia.nvimgcodec": ("error", "Use rocJPEG."),
    "onnxruntime": ("warning", "Install onnxruntime-migraphx or onnxruntime-rocm."),
    "pycuda": ("error", "Use hip-python."),
    "pynvml": ("error", "Use amdsmi."),
    "tensorrt": ("error", "Use MIGraphX."),
    "tensorrt_llm": ("error", "Use vLLM."),
    "torch_tensorrt": ("error", "Use torch_migraphx, or torch.compile."),
    "torchao": ("note", "It runs; which kernels are fast differs."),
    "transformer_engine": ("warning", "Build AMD's fork, github.com/ROCm/TransformerEngine."),
    "triton": ("note", "torch's ROCm build brings Triton for AMD's cards."),
    "vllm": ("warning", "Take its ROCm build."),
    "xformers": ("warning", "Take its ROCm wheel."),
}

PACKAGES = {name: Replacement(level=level, how=how) for name, (level, how) in _TABLE.items()}
"""Where a package is missing, as `spconv`, nothing takes its place that is known."""
