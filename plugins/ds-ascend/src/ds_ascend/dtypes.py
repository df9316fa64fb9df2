"""Which dtypes an Ascend chip computes in, and why not in the others."""

from __future__ import annotations

from ds_ascend.socs import has_fp8
from ds_core.components.backend import DtypeSupport


def settle(
    measured: dict[str, DtypeSupport], soc: str, *, bf16: bool, saturates: bool
) -> dict[str, DtypeSupport]:
    """What was measured, corrected by what the chip is known for.

    Args:
        measured: By short name.
        soc: CANN's name of the chip, as `Ascend910B3`.
        bf16: What torch_npu says of bfloat16: without it, it may be emulated or refused.
        saturates: Whether float16 overflow gives the largest value.
    """
    found = dict(measured)
    if not bf16:
        found["bf16"] = DtypeSupport(
            works=False, reason=f"{soc} has no bfloat16; Ascend910B1 and later have it."
        )
    if bf16 and "fp32" in found:
        note = "Convolutions use HF32 unless torch.npu.conv.allow_hf32 is False."
        found["fp32"] = found["fp32"].model_copy(
            update={"reason": f"{found['fp32'].reason} {note}".strip()}
        )
    half = found.get("fp16")
    if saturates and half is not None and half.works:
        note = "Overflow saturates here: a loss scaler must ask the device's flag."
        found["fp16"] = half.model_copy(update={"reason": f"{half.reason} {note}".strip()})
    for name in ("fp8_e4m3fn", "fp8_e5m2"):
        if name in found:
            found[name] = (
                DtypeSupport(
                    works=True,
                    reason="In scaled matrix multiplies alone, which a precision policy must ask "
                    "for; not measured.",
                )
                if has_fp8(soc)
                else DtypeSupport(works=False, reason=f"{soc} has no float8 matrix units.")
            )
    return found
