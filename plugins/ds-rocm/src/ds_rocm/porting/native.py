"""What becomes of a name or header of CUDA's when torch's hipify has gone over a source."""

from __future__ import annotations

import re

from ds_core.components.porting import Verdict
from ds_rocm.porting.hipify import absent, tables

_GUARD = "Put it under #ifndef USE_ROCM."

_BY_HAND = {
    "cuda_fp8.h": ("HIP has hip/hip_fp8.h (from 6.2 on).", "Include that under USE_ROCM."),
    "cusolverDn.h": ("HIP has hipsolver/hipsolver.h.", "Include that under USE_ROCM."),
    "cudnn.h": ("MIOpen, in its place, has another API.", "Call torch's own convolutions instead."),
    "device_launch_parameters.h": ("HIP's runtime header brings what it has.", "Leave it out."),
    "mma.h": ("HIP has rocwmma/rocwmma.hpp.", "Use rocWMMA under USE_ROCM."),
    "nvjpeg.h": ("AMD's library is rocJPEG.", "Use that under USE_ROCM."),
    "helper_cuda.h": ("It comes with CUDA's samples.", "Write the checks that you need yourself."),
    "cuuint32_t": ("It is an unsigned integer.", "Write uint32_t."),
    "cuuint64_t": ("It is an unsigned integer.", "Write uint64_t."),
    "nv_bfloat16": ("hipify knows __nv_bfloat16 alone.", "Write that."),
    "nv_bfloat162": ("hipify knows __nv_bfloat162 alone.", "Write that."),
    "__cvta_generic_to_shared": ("It serves inline PTX alone.", _GUARD),
}
"""Unmapped names and headers with more to say: why, and what to do."""

_FAMILIES = {
    r"cudnn\w+|CUDNN_\w+": ("MIOpen's API differs.", "Call torch's own convolutions instead."),
    r"nvml\w+|NVML_\w+": ("AMD's library is AMD SMI.", "Use that under USE_ROCM."),
    r"cub/.+": ("hipify knows few of CUB's headers.", "Include <cub/cub.cuh>, which it maps."),
    r"cooperative_groups/.+": ("HIP has hip/hip_cooperative_groups.h alone.", _GUARD),
    r"cuda/.+": ("HIP brings no libcu++; libhipcxx is its own project.", _GUARD),
    r"nccl(?:Dev|Lsa|Gin|Team|Window|Ll)\w+": ("RCCL has no device API.", _GUARD),
    r"cupti\w+|cupti\w*\.h": ("AMD's library is rocprofiler-sdk.", _GUARD),
    r"helper_\w+\.h": ("It comes with CUDA's samples.", "Write what you need of it yourself."),
    r"npp\w*\.h": ("AMD's library is RPP.", _GUARD),
}


def verdict(text: str) -> Verdict:
    """Judge an identifier or the path of a header."""
    known = tables()
    if not known.names:
        return _unmapped(text, "The table of HIP's names comes with torch.", "Install torch.")
    return _header(text) if "." in text or "/" in text else _name(text)


def _name(name: str) -> Verdict:
    to = tables().names.get(name)
    if to is not None:
        bare = to.strip(" *")
        if bare in absent():
            return _unmapped(name, f"hipify turns it into {bare}, which HIP does not have.", _GUARD)
        return Verdict(status="identity" if to == name else "mapped", to=to)
    own = _told(name)
    if own is None and re.match(r"nccl|NCCL_", name):
        return Verdict(status="identity", to=name, why="RCCL has NCCL's names.")
    return own or _unmapped(name, "hipify leaves it as it is.", _GUARD)


def _header(path: str) -> Verdict:
    headers = tables().headers
    if path in headers:
        return Verdict(status="mapped", to=headers[path])
    prefix = next((key for key in headers if path.startswith(f"{key}/")), None)
    if prefix is not None:
        return Verdict(status="mapped", to=headers[prefix] + path[len(prefix) :])
    if path.startswith("thrust/"):
        return Verdict(status="identity", to=path, why="rocThrust has Thrust's headers.")
    # hipify replaces what it knows wherever it stands between characters that are no letters.
    for key, to in headers.items():
        if path.endswith(f"/{key}"):
            broken = path[: -len(key)] + to
            return _unmapped(
                path, f"hipify turns it into {broken}, which does not exist.", f"Include <{key}>."
            )
    return _told(path) or _unmapped(path, "hipify leaves it as it is.", _GUARD)


def _told(text: str) -> Verdict | None:
    if text in _BY_HAND:
        return _unmapped(text, *_BY_HAND[text])
    for pattern, (why, mend) in _FAMILIES.items():
        if re.fullmatch(pattern, text):
            return _unmapped(text, why, mend)
    return None


def _unmapped(text: str, why: str, mend: str) -> Verdict:
    return Verdict(status="unmapped", to="", why=why, mend=mend)
