"""What code written for NVIDIA's CUDA meets on another backend, as the backend's author knows it.

A backend hands this to `ds check-compatibility` through `Backend.porting`. It is data: reading it
needs neither torch nor the hardware.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Literal

from ds_core.components.backend import Frozen

Level = Literal["error", "warning", "note"]
"""`error` stops a program, `warning` changes what it does, `note` is worth knowing."""

DTYPES = (
    *("fp64", "fp32", "tf32", "bf16", "fp16"),
    *("fp8_e4m3fn", "fp8_e5m2", "complex64", "complex128"),
)
"""The dtypes that a target is asked about, by short name."""

CUDA_PACKAGES = (
    *("apex", "awq", "bitsandbytes", "cuda", "cudf", "cugraph", "cuml", "cupy"),
    *("deep_gemm", "exllamav2", "faiss", "flash_attn", "flashinfer", "flash_mla", "mamba_ssm"),
    *("causal_conv1d", "MinkowskiEngine", "numba.cuda", "nvidia.dali", "nvidia.nvimgcodec"),
    *("onnxruntime", "pycuda", "pynvml", "spconv", "tensorrt", "tensorrt_llm", "torch_tensorrt"),
    *("torchao", "transformer_engine", "triton", "tinycudann", "vllm", "xformers"),
)
"""Python packages, by what is imported, that run on NVIDIA's cards alone unless a target says
otherwise in `Porting.packages`; nothing else is asked about."""

CONSTRUCTS = (
    *("arch-guard", "async-copy", "cutlass", "device-launch", "fp8", "grid-sync", "inline-ptx"),
    *("lane-mask", "launch-attributes", "tensor-map", "texture-reference", "warp-size", "wmma"),
)
"""What native code does that no table of names can settle; `Porting.constructs` is keyed so."""


class Verdict(Frozen):
    """What becomes of one name or header of CUDA's on a target."""

    status: Literal["mapped", "identity", "unmapped"]
    """`mapped`: its tools rewrite it; `identity`: it is called the same there; `unmapped`: it is
    left alone, and the program does not compile or does something else."""
    to: str = ""
    """What it is called there."""
    why: str = ""
    """A sentence; for an unmapped name, more than that it has no counterpart."""
    mend: str = ""


class Construct(Frozen):
    """What a construct of native code meets on a target. Those not listed are no trouble."""

    level: Level
    why: str
    mend: str = ""


class Replacement(Frozen):
    """What a target has in place of a package for NVIDIA's cards."""

    level: Level
    """`note` where the package itself runs there; `error` where it cannot be imported or used."""
    how: str
    """A sentence that says what to do."""


class DtypeRule(Frozen):
    """How a dtype does on devices of some architectures."""

    dtype: str
    works: bool | None
    """None where only measuring on the device tells."""
    fast: bool | None = None
    """Whether matrix multiplies in it are faster than float32's in hardware; None as above."""
    archs: tuple[str, ...] = ("*",)
    """Patterns as in file names, matched against `Device.arch`."""
    reason: str = ""
    """A sentence."""


class Porting(Frozen):
    """What a target needs from code that was written for CUDA."""

    device_type: str
    """What `torch.device` calls it. Where it is `cuda`, code that says `cuda` runs as it is."""
    collective: str | None = None
    """What `init_process_group` is given; None where there is no library."""
    dtypes: tuple[DtypeRule, ...] = ()
    """The first rule that matches dtype and architecture counts."""
    overflow: Literal["inf", "saturate"] = "inf"
    """`saturate` where float16 overflow gives the largest value: a loss scaler that looks for inf
    never notices."""
    static_shapes: str = ""
    """Why shapes that change from step to step cost much, a sentence; empty where they do not."""
    pinned_memory: str = ""
    """What is different about pinned host memory, a sentence; empty where nothing is."""
    packages: dict[str, Replacement] = {}
    """By name in `CUDA_PACKAGES`; what is missing has no replacement that is known."""
    native: Callable[[str], Verdict] | None = None
    """Asked about each name (`cudaMalloc`) and header (`cuda_fp16.h`); None where native code for
    CUDA does not port at all."""
    native_absent: str = ""
    """Why `native` is None and what to do instead: a sentence."""
    constructs: dict[str, Construct] = {}
    """By name in `CONSTRUCTS`."""
    macros: tuple[str, ...] = ()
    """What its compiler defines: code that is left out under these is not looked at."""

    def dtype(self, name: str, arch: str = "") -> DtypeRule:
        """The rule for a dtype on an architecture; works and speed are None where none is known.

        Without an architecture, rules for some of them leave the answer open.
        """
        rules = [rule for rule in self.dtypes if rule.dtype == name]
        if not arch:
            limited = [rule for rule in rules if "*" not in rule.archs]
            if limited:
                told = " ".join(dict.fromkeys(rule.reason for rule in rules if rule.reason))
                return DtypeRule(dtype=name, works=None, reason=told or "It depends on the device.")
        for rule in rules:
            if any(fnmatchcase(arch, pattern) for pattern in rule.archs):
                return rule
        return DtypeRule(dtype=name, works=None, reason="Only measuring on the device tells.")
