"""Which names and headers in C++ source are CUDA's, and which stand for a construct."""

from __future__ import annotations

import re
from functools import lru_cache

_NAME = re.compile(
    r"""
    cuda(?!Check|Safe|Assert)[A-Z]\w* | cu(?:blas|dnn|fft|sparse|solver)[A-Z]\w*
  | curand(?:[A-Z_]\w*)? | cupti[A-Z]\w* | cufile[A-Z]\w* | cutensor[A-Z]\w*
  | nccl[A-Z]\w* | nvrtc[A-Z]\w* | nvtx[A-Z]\w* | nvml[A-Z]\w* | nvjpeg[A-Z]\w*
  | cu[A-Z]\w* | CU[a-z]\w* | cuuint(?:32|64)_t | __nv_\w+ | nv_bfloat16\w* | __cvta_\w+
  | (?:CU|CUBLAS|CUBLASLT|CUDNN|CUFFT|CURAND|CUSPARSE|CUSPARSELT|CUSOLVER|CUDART|NVRTC|NVML)
    _(?!\w*(?:CHECK|CALL|SAFE|ASSERT|TRY))[A-Z0-9]\w*
  | NCCL_(?:VERSION\w*|MAJOR|MINOR|PATCH|UNIQUE_ID_BYTES|CONFIG_\w+|SPLIT_NOCOLOR|WIN_\w+)
  | CUDA_(?:[RC]_\d+\w* | SUCCESS | ERROR_(?!CHECK)\w+ | VERSION | ARRAY\w*_DESCRIPTOR\w*
    | MEMCPY[23]D\w* | MEM_\w+ | RESOURCE_\w+ | POINTER_ATTRIBUTE_\w+ | \w+_NODE_PARAMS\w*
    | EXTERNAL_\w+ | LAUNCH_PARAMS\w* | TEXTURE_DESC\w* | KERNEL_\w+_PARAMS)
    """,
    re.VERBOSE,
)

_HEADER = re.compile(
    r"""
    cuda(?:_runtime|_runtime_api|_fp16|_bf16|_fp8|_fp6|_fp4|_profiler_api|_pipeline\w*|_awbarrier
      |_texture_types|_surface_types|_device_runtime_api|_occupancy|_\w+_interop)?\.h(?:pp)?
  | cuda(?:Typedefs|GL|EGL|VDPAU|Profiler|ProfilerTypedefs)\.h | cuComplex\.h
  | cu(?:fft|file|pti)\w*\.h
  | cu(?:blas|dnn|rand|sparse|solver|tensor)\w*\.h | nccl(?:_net)?\.h | nvrtc\.h | nvToolsExt\w*\.h
  | nvtx3/.+ | nvml\.h | nvjpeg\w*\.h | npp\w*\.h | nvJitLink\.h | mma\.h
  | cooperative_groups(?:/.+|\.h) | (?:cub|thrust|cuda|cutlass|cute)/.+
  | device_launch_parameters\.h | device_functions\.h | driver_types\.h | host_defines\.h
  | vector_(?:types|functions)\.h | channel_descriptor\.h | library_types\.h | math_constants\.h
  | (?:texture|surface)_(?:\w+_functions|types|functions)\.h
  | helper_(?:cuda|functions|math|string)\.h
  | sm_\d\d_\w+\.(?:h|hpp) | crt/\w+\.(?:h|hpp)
    """,
    re.VERBOSE,
)

_STANDS_FOR = re.compile(
    "|".join(
        f"(?P<{construct.replace('-', '_')}>{pattern})"
        for construct, pattern in {
            "fp8": r"cuda_fp[468]\.h|__nv_fp[468]\w*|__NV_E\dM\d\w*",
            "async-copy": r"cuda_pipeline\w*\.h|cuda_awbarrier\.h|cuda/(?:pipeline|barrier)"
            r"|memcpy_async|cooperative_groups/memcpy_async\.h|__pipeline_\w+",
            "wmma": r"mma\.h|nvcuda|wmma",
            "cutlass": r"(?:cutlass|cute)/.+",
            "tensor-map": r"cuTensorMap\w+|CUtensorMap\w*|CU_TENSOR_MAP_\w+",
            "launch-attributes": r"cu(?:da)?LaunchKernelExC?|cudaLaunch(?:Config_t|Attribute\w*)"
            r"|CUlaunch(?:Config|Attribute)\w*|CU_LAUNCH_ATTRIBUTE\w*|__cluster_dims__|cluster_group"
            r"|this_cluster|cudaClusterSchedulingPolicy\w*",
            "grid-sync": r"this_grid|grid_group|this_multi_grid|multi_grid_group",
            "texture-reference": r"cuda(?:Unb|B)indTexture\w*|cudaGetTextureReference"
            r"|textureReference|cuTexRef\w+|CUtexref",
        }.items()
    )
)


@lru_cache(2**16)
def is_name(text: str) -> bool:
    """Whether an identifier is one that CUDA's libraries define, by the look of it."""
    return _NAME.fullmatch(text) is not None


def is_header(path: str) -> bool:
    """Whether what is included comes with CUDA's toolkit, or with NVIDIA's libraries beside it."""
    return _HEADER.fullmatch(path) is not None


@lru_cache(2**16)
def construct(text: str) -> str:
    """The construct, of those in `porting.CONSTRUCTS`, that a name or header belongs to, or ""."""
    found = _STANDS_FOR.fullmatch(text)
    return str(found.lastgroup).replace("_", "-") if found else ""
