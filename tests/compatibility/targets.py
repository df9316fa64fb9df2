"""Targets made for tests, as a plugin would describe them, and backends that hand them out."""

from __future__ import annotations

from pathlib import Path

from ds_core.components import porting as contract
from tests.distributions import install

ELSEWHERE = contract.Porting(
    device_type="npu",
    collective="hccl",
    dtypes=(
        *(
            contract.DtypeRule(dtype=name, works=False, reason="The device has no units for it.")
            for name in ("fp64", "complex64", "complex128")
        ),
        contract.DtypeRule(dtype="fp16", works=True, fast=True, archs=("v2*",)),
        contract.DtypeRule(dtype="fp16", works=False, reason="Only v2 has it."),
    ),
    overflow="saturate",
    static_shapes="Each new shape is compiled anew.",
    pinned_memory="name the device in pin_memory_device.",
    packages={"flash_attn": contract.Replacement(level="error", how="Use npu_fusion_attention.")},
    native_absent="Write the operator for the device.",
)
"""A device of its own, for which native code is written anew."""


def translated(name: str) -> contract.Verdict:
    if name.startswith("nccl") or name == "thrust/sort.h":
        return contract.Verdict(status="identity", to=name)
    if name in ("cudaMalloc", "cudaFree", "cudaStream_t", "cuda_runtime.h"):
        return contract.Verdict(status="mapped", to=name.replace("cuda", "hal"))
    return contract.Verdict(status="unmapped", why="Nobody wrote it.", mend="Write it.")


TRANSLATED = contract.Porting(
    device_type="cuda",
    collective="nccl",
    native=translated,
    constructs={
        name: contract.Construct(level="error", why=f"No {name} here.")
        for name in contract.CONSTRUCTS
    },
    macros=("USE_HAL",),
)
"""A device whose tools translate native code."""

_MODULE = """
from ds_core.components import Backend, Device, Probe
from tests.compatibility import targets

class {name}(Backend):
    name = "{name}"
    device_type = "{device}"

    @classmethod
    def probe(cls, root="/"):
        return Probe({probe})

    @classmethod
    def porting(cls):
        {porting}
"""


def add(
    site: Path, name: str, porting: str, probe: str = "present=False", device: str = ""
) -> None:
    """Install a backend whose `porting` has the body `porting`."""
    module = _MODULE.format(name=name, porting=porting, probe=probe, device=device or name)
    install(site, f"ds-{name}", {"ds.backends": {name: f"{name}:{name}"}}, modules={name: module})
