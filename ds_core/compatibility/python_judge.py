"""What the uses in a Python source mean on a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ds_core.compatibility import torch_cuda
from ds_core.compatibility.findings import Finding
from ds_core.compatibility.python_scan import Use
from ds_core.components.porting import Level, Porting

_TO_DEVICE = "Use .to(device), with torch.accelerator.current_accelerator() for the device."
_OWN_DEVICE = "Take it from torch.accelerator.current_accelerator()."


def judge_python(
    uses: Sequence[Use], path: str, target: str, porting: Porting, arch: str = ""
) -> Iterator[Finding]:
    """The findings of one file for one target; what is no trouble there gives none."""
    for use in uses:
        judged = _judge(use, porting, arch)
        if judged is not None:
            level, what, mend = judged
            yield Finding(
                rule=use.rule,
                level=level,
                what=what,
                mend=mend,
                path=path,
                line=use.line,
                column=use.column,
                target=target,
            )


def _judge(use: Use, porting: Porting, arch: str) -> tuple[Level, str, str] | None:
    if use.rule in ("dtype", "loss-scaler", "dynamic-shape", "pin-memory"):
        return _by_hardware(use, porting, arch)
    if use.rule == "cuda-package":
        return _package(use, porting)
    if use.rule == "cuda-extension":
        return _extension(porting)
    if use.rule == "collective-string":
        if porting.collective is not None and porting.collective in use.subject:
            return None
        mild: Level = "warning" if use.mild else "error"
        own = f"{porting.collective!r}" if porting.collective else "none"
        mend = "Leave it out: torch takes each device's own."
        return mild, f"The collective library here is {own}, not {use.subject!r}.", mend
    if porting.device_type == "cuda":
        return _tied_to_cuda(use)
    return _elsewhere(use, porting.device_type)


def _by_hardware(use: Use, porting: Porting, arch: str) -> tuple[Level, str, str] | None:
    if use.rule == "dtype":
        rule = porting.dtype(use.subject, arch)
        if rule.works is not False:
            return None
        return "error", f"{use.subject} does not work here: {rule.reason}", "Use another dtype."
    if use.rule == "loss-scaler" and porting.overflow == "saturate":
        what = "float16 overflow gives the largest value here, which a GradScaler never notices."
        return "warning", what, "Leave loss scaling to a precision policy of ds-core."
    if use.rule == "dynamic-shape" and porting.static_shapes:
        what = f"{_shape(use.subject)} {porting.static_shapes}"
        return "warning", what, "Pad to a few sizes, or compute with a mask."
    if use.rule == "pin-memory" and porting.pinned_memory:
        return "warning", f"{use.subject}: {porting.pinned_memory}", ""
    return None


def _shape(subject: str) -> str:
    if subject == "mask":
        return "How much a mask picks depends on its values."
    if subject == "compile":
        return "Shapes are declared dynamic."
    by = torch_cuda.DYNAMIC.get(subject, "the number of entries that are not zero")
    return f"The shape that {subject} gives depends on {by}."


def _package(use: Use, porting: Porting) -> tuple[Level, str, str]:
    known = porting.packages.get(use.subject)
    caught = " Its absence is caught." if use.mild else ""
    if known is None:
        level: Level = "warning" if use.mild else "error"
        what = f"{use.subject} is for NVIDIA's cards, and nothing is known to take its place here."
        return level, what + caught, ""
    level = "warning" if use.mild and known.level == "error" else known.level
    runs = "runs here" if level == "note" else "does not run here as it is"
    return level, f"{use.subject} {runs}.{caught}", known.how


def _extension(porting: Porting) -> tuple[Level, str, str] | None:
    if porting.native is None:
        return (
            "error",
            f"A CUDA extension cannot be built here. {porting.native_absent}".strip(),
            "",
        )
    if not porting.macros and not porting.constructs:
        return None
    what = "torch translates an extension's sources before it builds them."
    return "note", what, "What it cannot translate is listed with the sources."


def _tied_to_cuda(use: Use) -> tuple[Level, str, str] | None:
    if use.rule == "map-location" and use.mild:
        return None
    if use.rule == "cuda-amp":
        name = use.subject.rpartition(".")[2]
        return "warning", f"{use.subject} is deprecated since torch 2.4.", _amp(name)
    subject = f"torch.cuda.{use.subject}" if use.rule == "torch-cuda" else use.subject
    mend = _accelerator(use.subject) if use.rule == "torch-cuda" else ""
    return "note", f"{subject} works here, and ties the code to such devices.", mend


def _elsewhere(use: Use, device: str) -> tuple[Level, str, str]:
    level: Level = "warning" if use.mild else "error"
    if use.rule == "torch-cuda":
        name = use.subject.partition(".")[0]
        if name in torch_cuda.HARMLESS:
            return "note", f"torch.cuda.{use.subject} does nothing here.", _accelerator(name)
        if name in torch_cuda.QUIET:
            what = f"torch.cuda.{use.subject} answers here as if there were no device."
            return "warning", what, _accelerator(use.subject)
        what = f"torch.cuda.{use.subject} fails without CUDA."
        if use.mild:
            what = f"torch.cuda.{use.subject} is left out here, where there is no CUDA."
        return level, what, _accelerator(use.subject)
    if use.rule == "cuda-call":
        return level, f"The device here is {device!r}, which .cuda() does not know.", _TO_DEVICE
    if use.rule == "cuda-amp":
        name = use.subject.rpartition(".")[2]
        return "warning", f"{use.subject} does nothing on {device!r}.", _amp(name)
    if use.rule == "cuda-attribute":
        what = f"is_cuda is False on {device!r}."
        return level, what, f"Ask for x.device.type == {device!r}, or != 'cpu'."
    if use.rule == "map-location":
        if use.mild:
            what = "A checkpoint with tensors on CUDA devices does not load here."
            return level, what, "Give map_location='cpu', and move the model afterwards."
        return level, f"map_location={use.subject!r} does not exist here.", "Give 'cpu' instead."
    return level, f"The device here is {device!r}, not {use.subject!r}.", _OWN_DEVICE


def _accelerator(name: str) -> str:
    if name in torch_cuda.EQUAL:
        return f"Use torch.accelerator.{torch_cuda.EQUAL[name]}."
    head = name.partition(".")[0]
    return torch_cuda.INSTEAD.get(head) or torch_cuda.OTHERWISE.format(name)


def _amp(name: str) -> str:
    if name in ("autocast", "GradScaler"):
        return f"Use torch.amp.{name}(device_type)."
    return f"Use torch.amp.{name}(..., device_type=...)."
