"""The rules that findings name: what each looks for and why it matters, for people."""

from __future__ import annotations

from typing import NamedTuple

from ds_core.components.porting import Level


class Rule(NamedTuple):
    """One kind of finding."""

    title: str
    help: str
    level: Level
    """The usual one; a finding's own counts."""


RULES: dict[str, Rule] = {
    "machine": Rule(
        "Hardware, driver and software do not fit",
        "A card, its driver, its device files and torch's build must fit each other.",
        "error",
    ),
    "several-vendors": Rule(
        "Cards of several vendors",
        "One installed torch serves the cards of one vendor: the others stay idle.",
        "warning",
    ),
    "torch-import": Rule(
        "torch cannot be imported",
        "Every backend needs torch. This is only tried when it is asked for.",
        "error",
    ),
    "backend": Rule(
        "A backend cannot be asked",
        "An installed backend failed, or does not say what code needs on it.",
        "error",
    ),
    "requirement": Rule(
        "Installed versions do not fit each other",
        "A distribution states what it needs of others and of Python; that is not installed.",
        "error",
    ),
    "unreadable": Rule(
        "A file or folder cannot be read",
        "What cannot be read was not checked.",
        "warning",
    ),
    "too-large": Rule(
        "A file or tree is too large",
        "Files above a limit are left out, as they are hardly written by hand; so is what comes "
        "after a number of files.",
        "warning",
    ),
    "encoding": Rule(
        "A file is not UTF-8",
        "It was read all the same, byte by byte; names are not affected.",
        "note",
    ),
    "python-syntax": Rule(
        "Python that cannot be parsed",
        "The file is for another version of Python, or broken; it was not checked.",
        "warning",
    ),
    "cuda-call": Rule(
        "A tensor or module is moved by .cuda()",
        ".cuda() knows CUDA devices alone. .to(device) serves every one.",
        "error",
    ),
    "torch-cuda": Rule(
        "torch.cuda is used",
        "torch.cuda raises, or answers as if there were no device, on other accelerators; "
        "torch.accelerator serves every one.",
        "error",
    ),
    "cuda-amp": Rule(
        "torch.cuda.amp is used",
        "It is deprecated since torch 2.4 and does nothing on other devices. torch.amp takes the "
        "device as an argument.",
        "warning",
    ),
    "cuda-attribute": Rule(
        "is_cuda is asked",
        "It is False on every other accelerator, so that the code takes its path for the CPU.",
        "warning",
    ),
    "device-string": Rule(
        "A device is hard-coded as cuda",
        "Take the device from torch.accelerator.current_accelerator() or from the caller.",
        "error",
    ),
    "collective-string": Rule(
        "The collective library is hard-coded as nccl",
        "NCCL is for NVIDIA's cards; without a name init_process_group takes each device's own.",
        "error",
    ),
    "map-location": Rule(
        "A checkpoint is loaded to where it was saved",
        "torch.load puts tensors back where they were unless map_location says otherwise, which "
        "fails where that device does not exist.",
        "error",
    ),
    "pin-memory": Rule(
        "Host memory is pinned",
        "Pinned memory is for copies to an accelerator; targets differ in what they need.",
        "warning",
    ),
    "dtype": Rule(
        "A dtype that the target lacks",
        "Tensors of this dtype cannot be made or computed with on the device.",
        "error",
    ),
    "loss-scaler": Rule(
        "A loss scaler that never sees an overflow",
        "Where float16 saturates, gradients show no inf: a scaler that looks for it never backs "
        "off.",
        "warning",
    ),
    "dynamic-shape": Rule(
        "A shape depends on values",
        "Devices that compile graphs compile anew for each new shape.",
        "warning",
    ),
    "cuda-package": Rule(
        "A package for NVIDIA's cards is imported",
        "It does not run on the target as it is; some have a build or a counterpart for it.",
        "error",
    ),
    "cuda-extension": Rule(
        "A CUDA extension is built",
        "Its sources are CUDA's: they must port for the extension to build.",
        "error",
    ),
    "native-code": Rule(
        "Native code for CUDA",
        "The target does not run CUDA kernels, and no tool translates them.",
        "error",
    ),
    "native-name": Rule(
        "A name of CUDA's without a counterpart",
        "The target's tools leave the name alone or turn it into one that does not exist: what "
        "uses it does not compile.",
        "error",
    ),
    "arch-guard": Rule(
        "Code under a version macro of CUDA's",
        "Where the macro is not defined, the preprocessor leaves out the code without a word.",
        "warning",
    ),
    "async-copy": Rule(
        "Asynchronous copies within the device",
        "cuda::pipeline, cuda::barrier and memcpy_async are NVIDIA's.",
        "error",
    ),
    "cutlass": Rule("CUTLASS or CuTe", "Templates written for NVIDIA's tensor cores.", "error"),
    "device-launch": Rule(
        "A kernel launches a kernel", "Dynamic parallelism is NVIDIA's.", "error"
    ),
    "fp8": Rule(
        "CUDA's float8 types",
        "Formats and headers of 8-bit floats differ between vendors.",
        "error",
    ),
    "grid-sync": Rule(
        "A whole grid synchronises",
        "It needs a cooperative launch, with no more blocks than the device holds at once.",
        "warning",
    ),
    "inline-ptx": Rule("Inline PTX", "PTX is the assembly of NVIDIA's cards.", "error"),
    "lane-mask": Rule(
        "A lane mask of 32 bits", "Warps of 64 lanes have masks of 64 bits.", "error"
    ),
    "launch-attributes": Rule(
        "A launch with attributes",
        "cudaLaunchKernelEx and thread block clusters are NVIDIA's.",
        "error",
    ),
    "tensor-map": Rule(
        "A tensor map",
        "The tensor memory accelerator is in NVIDIA's cards from Hopper on.",
        "error",
    ),
    "texture-reference": Rule(
        "A texture reference", "CUDA 12 has removed them; texture objects remain.", "error"
    ),
    "warp-size": Rule(
        "A warp of 32 lanes is taken for granted",
        "Warps have 64 lanes on some cards: lanes are then left out or counted twice.",
        "warning",
    ),
    "wmma": Rule("nvcuda::wmma", "The interface to NVIDIA's tensor cores.", "error"),
}
