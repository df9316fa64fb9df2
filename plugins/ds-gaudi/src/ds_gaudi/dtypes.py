"""Which dtypes a Gaudi computes in, and why not in the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.components.backend import DtypeSupport

if TYPE_CHECKING:
    import torch

WITH_FP16_AND_FP8 = ("gaudi2", "gaudi3")


def architecture(name: str) -> str:
    """`gaudi2` of what the bridge calls a card, as `GAUDI2`; empty for a name without one."""
    bare = name.lower().replace(" ", "").replace("-", "")
    return next((arch for arch in ("gaudi3", "gaudi2", "gaudi") if arch in bare), "")


def settle(
    measured: dict[str, DtypeSupport], arch: str, *, fp16: bool, inf: bool
) -> dict[str, DtypeSupport]:
    """What was measured, corrected by what the card is known for.

    Args:
        measured: By short name.
        arch: `gaudi`, `gaudi2` or `gaudi3`.
        fp16: Whether the bridge supports float16 on it.
        inf: Whether float16 overflow was seen to give inf there.
    """
    found = dict(measured)
    if not fp16:
        found["fp16"] = _lacks("The first Gaudi has no float16; use bfloat16.")
    elif not inf:
        found["fp16"] = _lacks(
            "Overflow gave no inf here, and no flag tells of it: a loss scale could not be found."
        )
    for name in ("fp8_e4m3fn", "fp8_e5m2"):
        if name in found:
            found[name] = (
                DtypeSupport(works=True, reason=_fp8_reason(name, arch))
                if arch in WITH_FP16_AND_FP8
                else _lacks("The first Gaudi has no float8.")
            )
    return found


def overflow_gives_inf(device: torch.device) -> bool:
    """Multiply beyond float16's largest value on a device, and look."""
    import torch

    large = torch.full((4,), 6e4, dtype=torch.float16).to(device)
    return bool(torch.isinf((large * large).cpu()).all())


def _fp8_reason(name: str, arch: str) -> str:
    reason = (
        "In scaled matrix multiplies alone, which a precision policy must ask for; not measured."
    )
    if name == "fp8_e4m3fn" and arch == "gaudi2":
        reason += " On Gaudi 2 its largest value is 240, not 448."
    return reason


def _lacks(reason: str) -> DtypeSupport:
    return DtypeSupport(works=False, reason=reason)
