"""Which dtypes an AMD card computes in, and why not in the others."""

from __future__ import annotations

import os

from ds_core.components.backend import DtypeSupport
from ds_rocm.archs import has_fnuz, has_ocp_float8

_SCALED = "In scaled matrix multiplies alone, which a precision policy must ask for; not measured."


def measures_tf32(arch: str) -> bool:
    """Whether torch multiplies in TF32 there when asked to: on MI300, behind a switch."""
    return has_fnuz(arch) and os.environ.get("HIPBLASLT_ALLOW_TF32") == "1"


def settle(measured: dict[str, DtypeSupport], arch: str) -> dict[str, DtypeSupport]:
    """What was measured, with what the architecture settles: TF32 and the flavour of float8.

    Args:
        measured: By short name.
        arch: As `gfx942`.
    """
    found = dict(measured)
    if "tf32" not in found:
        reason = "No matrix unit of this card computes in it."
        if has_fnuz(arch):
            reason = "torch leaves it off unless HIPBLASLT_ALLOW_TF32=1 is set when it starts."
        found["tf32"] = DtypeSupport(works=False, reason=reason)
    for form in ("e4m3", "e5m2"):
        ocp = "fp8_e4m3fn" if form == "e4m3" else "fp8_e5m2"
        fnuz = f"fp8_{form}fnuz"
        if has_ocp_float8(arch):
            found[ocp] = DtypeSupport(works=True, reason=_SCALED)
            found[fnuz] = _lacks("This card has OCP's float8, not fnuz.")
        elif has_fnuz(arch):
            found[ocp] = _lacks(f"MI300 has {fnuz} in its place, with another bias and no inf.")
            found[fnuz] = DtypeSupport(works=True, reason=_SCALED)
        else:
            found[ocp] = found[fnuz] = _lacks("This card has no float8 matrix units.")
    return found


def _lacks(reason: str) -> DtypeSupport:
    return DtypeSupport(works=False, reason=reason)
