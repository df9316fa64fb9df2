"""Ascend's systems on a chip: what their names mean.

Two of the names mislead. `Ascend910B` is a chip of the first generation, without bfloat16, while
the cards that are sold as 910B are `Ascend910B1` and later; CANN calls that whole family
`ascend910b`. Neither a prefix nor the case of letters can be trusted: each name is looked up.

The numbers are torch_npu's, `torch_npu/csrc/core/npu/NpuVariables.h`; which of them have what is in
`NpuVariables.cpp` beside it.
"""

from __future__ import annotations

_FIRST_WITH_BF16 = 220
_NUMBERS = {
    **{"Ascend910PremiumA": 100, "Ascend910ProA": 101, "Ascend910A": 102, "Ascend910ProB": 103},
    "Ascend910B": 104,
    **{"Ascend310P1": 200, "Ascend310P2": 201, "Ascend310P3": 202, "Ascend310P4": 203},
    **{"Ascend310P5": 204, "Ascend310P7": 205},
    **{"Ascend910B1": 220, "Ascend910B2": 221, "Ascend910B2C": 222, "Ascend910B3": 223},
    **{"Ascend910B4": 224, "Ascend910B4-1": 225},
    **{"Ascend310B1": 240, "Ascend310B2": 241, "Ascend310B3": 242, "Ascend310B4": 243},
    **{"Ascend910_9391": 250, "Ascend910_9392": 251, "Ascend910_9381": 252},
    **{"Ascend910_9382": 253, "Ascend910_9372": 254, "Ascend910_9362": 255},
    "Ascend910_9363": 256,
}
_ASCEND950 = 260

FAMILIES = {
    "0xd100": ("ascend310", "Ascend 310"),
    "0xd500": ("ascend310p", "Ascend 310P"),
    "0xd801": ("ascend910", "Ascend 910, first generation"),
    "0xd802": ("ascend910b", "Ascend 910B (Atlas A2)"),
    "0xd803": ("ascend910_93", "Ascend 910C (Atlas A3)"),
}
"""CANN's name of a family, and people's, by PCI number. The chip itself only the driver knows."""

WITHOUT_BF16 = ("ascend310", "ascend310p", "ascend910")
WITH_BF16 = ("ascend910b", "ascend910_93", "ascend950")
WITH_FP8 = ("ascend950",)


def number(name: str) -> int | None:
    """torch_npu's number of a chip by the name that CANN gives it; None for one not known here."""
    if name.startswith("Ascend950"):
        return _ASCEND950
    return _NUMBERS.get(name)


def has_bf16(name: str) -> bool | None:
    """Whether a chip computes in bfloat16; None for one not known here."""
    found = number(name)
    return None if found is None else found >= _FIRST_WITH_BF16


def has_inf(name: str) -> bool | None:
    """Whether float16 overflow gives inf there by default, not the largest value; None as above."""
    found = number(name)
    return None if found is None else 220 <= found < 240 or found >= 250


def has_fp8(name: str) -> bool:
    """Whether a chip multiplies matrices in float8, in OCP's formats."""
    found = number(name)
    return found is not None and found >= _ASCEND950
