"""NVIDIA's cards as a target of `ds check-compatibility`."""

from __future__ import annotations

from functools import cache

from ds_core.components.porting import (
    CUDA_PACKAGES,
    Construct,
    DtypeRule,
    Porting,
    Replacement,
    Verdict,
)

_SM80 = ("sm_8?", "sm_9?", "sm_1??")
_SM70 = ("sm_7?", *_SM80)
_SM89 = ("sm_89", "sm_9?", "sm_1??")
_BELOW_70 = ("sm_3?", "sm_5?", "sm_6?")

_DTYPES = (
    DtypeRule(dtype="fp64", works=True, fast=False),
    DtypeRule(dtype="fp32", works=True, fast=False, reason="The baseline."),
    DtypeRule(dtype="tf32", works=True, fast=True, archs=_SM80),
    DtypeRule(
        dtype="tf32",
        works=False,
        archs=(*_BELOW_70, "sm_7?"),
        reason="It needs compute capability 8.0.",
    ),
    DtypeRule(dtype="bf16", works=True, fast=True, archs=_SM80),
    DtypeRule(
        dtype="bf16",
        works=True,
        fast=False,
        archs=(*_BELOW_70, "sm_7?"),
        reason="Below compute capability 8.0 it is emulated.",
    ),
    DtypeRule(dtype="fp16", works=True, fast=True, archs=_SM70),
    DtypeRule(
        dtype="fp16",
        works=True,
        archs=_BELOW_70,
        reason="Without tensor cores only measuring tells.",
    ),
    *(
        rule
        for name in ("fp8_e4m3fn", "fp8_e5m2")
        for rule in (
            DtypeRule(
                dtype=name,
                works=True,
                fast=True,
                archs=_SM89,
                reason="In scaled matrix multiplies alone.",
            ),
            DtypeRule(
                dtype=name,
                works=False,
                archs=(*_BELOW_70, "sm_7?", "sm_8?"),
                reason="It needs compute capability 8.9.",
            ),
        )
    ),
    DtypeRule(dtype="complex64", works=True, fast=False),
    DtypeRule(dtype="complex128", works=True, fast=False),
)


@cache
def porting() -> Porting:
    """Code for CUDA runs as it is, but for what CUDA itself has removed."""
    return Porting(
        device_type="cuda",
        collective="nccl",
        dtypes=_DTYPES,
        packages={name: Replacement(level="note", how="") for name in CUDA_PACKAGES},
        native=_itself,
        constructs={
            "texture-reference": Construct(
                level="warning",
                why="CUDA 12 has removed texture references.",
                mend="Use texture objects.",
            )
        },
    )


def _itself(name: str) -> Verdict:
    return Verdict(status="identity", to=name)
