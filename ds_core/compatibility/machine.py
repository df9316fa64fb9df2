"""Whether this machine's hardware, drivers and torch fit each other."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ds_core.compatibility.findings import Finding
from ds_core.components import host_files
from ds_core.components.torch_version import torch_build
from ds_core.errors import UnknownNameError
from ds_core.registry import Registry
from ds_core.selection import Candidate

_TIMEOUT = 120.0
_PCI = "sys/bus/pci/devices"


def machine_findings(
    found: Sequence[Candidate], targets: Collection[str], registry: Registry, root: str = "/"
) -> Iterator[Finding]:
    """What the installed backends see here, and what they do not see."""
    for candidate in found:
        yield from _backend(candidate, candidate.record.full_name in targets)
    accelerators = [one for one in found if _is_accelerator(one)]
    present = [one for one in accelerators if one.probe is not None and one.probe.present]
    if len(present) > 1:
        names = " and ".join(f"{one.record.name} ({_devices(one)})" for one in present)
        yield Finding(
            rule="several-vendors",
            level="warning",
            what=f"This machine has devices of several backends: {names}.",
            mend="One torch build serves one of them: use an environment for each.",
        )
    if not any(one.usable for one in accelerators):
        yield from _idle_build()
    yield from _unserved(registry, root)


def import_findings() -> Iterator[Finding]:
    """Try to import torch in another process, and say why where it fails."""
    command = [sys.executable, "-c", "import torch"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        what = f"Importing torch takes longer than {_TIMEOUT:.0f} s."
        yield Finding(rule="torch-import", level="error", what=what)
        return
    if done.returncode == 0:
        return
    lines = done.stderr.strip().splitlines()
    last = lines[-1] if lines else f"the process ended with {done.returncode}"
    mend = "Reinstall torch, for the right hardware."
    if "backend" in done.stderr and "autoload" in done.stderr.lower():
        mend = "A device's extension of torch fails: TORCH_DEVICE_BACKEND_AUTOLOAD=0 leaves it out."
    what = f"torch cannot be imported: {last.rstrip('.')}."
    yield Finding(rule="torch-import", level="error", what=what, mend=mend)


def _is_accelerator(candidate: Candidate) -> bool:
    return candidate.backend is not None and candidate.backend.device_type != "cpu"


def _devices(candidate: Candidate) -> str:
    devices = candidate.probe.devices if candidate.probe else ()
    return ", ".join(dict.fromkeys(device.name for device in devices)) or "unnamed"


def _backend(candidate: Candidate, asked: bool) -> Iterator[Finding]:
    name, probe = candidate.record.name, candidate.probe
    if probe is None:
        yield Finding(
            rule="backend",
            level="error" if asked else "warning",
            what=f"Backend {name!r} cannot be asked: {candidate.reason.rstrip('.')}.",
            mend=f"Reinstall {candidate.record.distribution}, or switch it off.",
            target=name if asked else "",
        )
        return
    for problem in probe.problems:
        yield Finding(
            rule="machine",
            level="error" if probe.present or asked else "warning",
            what=f"{name}: {problem.what}",
            mend=problem.mend,
        )
    if asked and not probe.present and not probe.problems:
        what = f"{name}: there is no such device here; code was checked all the same."
        yield Finding(rule="machine", level="note", what=what)
    archs = sorted({device.arch for device in probe.devices if device.arch})
    if len(archs) > 1:
        what = f"{name}: devices differ ({', '.join(archs)}); dtypes are those of the first one."
        yield Finding(rule="machine", level="note", what=what)


def _idle_build() -> Iterator[Finding]:
    build = torch_build()
    kind = f"CUDA {build.cuda}" if build and build.cuda else ""
    kind = f"ROCm {build.hip}" if build and build.hip else kind
    if build and kind:
        yield Finding(
            rule="machine",
            level="warning",
            what=f"PyTorch {build.version} is built for {kind}, and no such card is usable here.",
            mend="It computes on the CPU; a CPU build is smaller.",
        )


def _unserved(registry: Registry, root: str) -> Iterator[Finding]:
    """Accelerators on the PCI bus that no installed backend is for."""
    table = Path(__file__).with_name("vendors.toml").read_text(encoding="utf-8")
    vendors = tomllib.loads(table)
    seen: dict[str, int] = {}
    for bus in host_files.names(root, _PCI):
        vendor = host_files.read(root, f"{_PCI}/{bus}/vendor").strip()
        kind = host_files.read(root, f"{_PCI}/{bus}/class").strip()
        if vendor in vendors and kind.startswith(tuple(vendors[vendor]["classes"])):
            seen[vendor] = seen.get(vendor, 0) + 1
    for vendor, count in seen.items():
        name, backend = vendors[vendor]["name"], vendors[vendor]["backend"]
        if any(record.name == backend for record in registry.records("backend")):
            continue
        mend = ""
        try:
            registry.find("backend", backend)
        except UnknownNameError as unknown:
            mend = unknown.mend
        what = f"{count} device{'s' if count > 1 else ''} of {name} without an installed backend."
        yield Finding(rule="machine", level="note", what=what, mend=mend)
