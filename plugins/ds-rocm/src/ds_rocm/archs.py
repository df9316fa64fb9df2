"""AMD's architectures: names, and what each has."""

from __future__ import annotations

import re

WHEELS = frozenset(
    {
        *("gfx900", "gfx906", "gfx908", "gfx90a", "gfx942", "gfx950"),
        *("gfx1030", "gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151"),
        *("gfx1200", "gfx1201"),
    }
)
"""Those that PyTorch's ROCm wheels have kernels for: pytorch's .ci/docker/manywheel/build.sh."""

INTEGRATED = frozenset({"gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036"})
"""Graphics inside processors that ROCm was never released for: not cards to compute on."""

SINCE = {"gfx942": (6, 0), "gfx950": (7, 0)}
"""The first ROCm release for an architecture, where wheels before it are still about."""

_NAMES = {
    "gfx906": "AMD Instinct MI50",
    "gfx908": "AMD Instinct MI100",
    "gfx90a": "AMD Instinct MI200",
    "gfx942": "AMD Instinct MI300",
    "gfx950": "AMD Instinct MI350",
}


def from_version(number: int | None) -> str:
    """The name of an architecture by KFD's `gfx_target_version`: gfx942 of 90402, gfx90a of 90010.

    Decimal digits of major, minor and stepping by two; the name has minor and stepping in
    hexadecimal. Empty for None.
    """
    if not number:
        return ""
    major, minor, stepping = number // 10000, number // 100 % 100, number % 100
    return f"gfx{major}{minor:x}{stepping:x}"


def name(arch: str) -> str:
    """What people call cards of an architecture."""
    known = _NAMES.get(arch)
    if known:
        return known
    return f"AMD Radeon ({arch})" if arch.startswith("gfx1") else f"AMD GPU ({arch or 'unknown'})"


def bare(text: str) -> str:
    """`gfx942` of what torch calls an architecture, `gfx942:sramecc+:xnack-`."""
    return text.partition(":")[0]


def has_fnuz(arch: str) -> bool:
    """Whether its float8 is fnuz: no infinities, one zero, another bias (MI300)."""
    return arch.startswith("gfx94")


def has_ocp_float8(arch: str) -> bool:
    """Whether its float8 is OCP's, as on NVIDIA's cards (MI350, Radeon RX 9000)."""
    return arch.startswith(("gfx95", "gfx12"))


def override(setting: str | None) -> str:
    """The architecture that `HSA_OVERRIDE_GFX_VERSION` makes of every card: gfx1030 of 10.3.0."""
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{1,2})", (setting or "").strip())
    return from_version(int(f"{match[1]}{match[2]:>02}{match[3]:>02}")) if match else ""
